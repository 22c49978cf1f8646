package netlink

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

func exposures(list ...string) []runtime.Exposure {
	var out []runtime.Exposure
	for _, s := range list {
		out = append(out, runtime.Exposure{Prefix: netip.MustParsePrefix(s), Masquerade: true})
	}
	return out
}

func expose(t *testing.T, h *Host, had []runtime.Exposure, list ...string) []string {
	t.Helper()
	var before []netip.Prefix
	for _, e := range had {
		before = append(before, e.Prefix)
	}
	warnings, err := h.Expose(exposures(list...), before)
	must(t, err)
	return warnings
}

// stranger adds a base chain of the forward hook, and rules to it.
func stranger(t *testing.T, h *Host, family nftables.TableFamily, table, chain string, policy nftables.ChainPolicy, rules ...[]expr.Any) *nftables.Chain {
	t.Helper()
	conn, err := h.netfilter()
	must(t, err)
	defer func() { must(t, conn.CloseLasting()) }()
	in := conn.AddTable(&nftables.Table{Name: table, Family: family})
	c := conn.AddChain(&nftables.Chain{
		Table: in, Name: chain, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &policy,
	})
	for _, r := range rules {
		conn.AddRule(&nftables.Rule{Table: in, Chain: c, Exprs: r})
	}
	must(t, conn.Flush())
	return c
}

// oursIn lists the labels of our rules in a chain, and the number of others.
func oursIn(t *testing.T, h *Host, c *nftables.Chain) (labels []string, theirs int) {
	t.Helper()
	conn, err := h.netfilter()
	must(t, err)
	defer func() { must(t, conn.CloseLasting()) }()
	rules, err := conn.GetRules(c.Table, c)
	must(t, err)
	ours, others := h.split(rules)
	return h.labels(ours), len(others)
}

func flush(t *testing.T, h *Host) {
	t.Helper()
	conn, err := h.netfilter()
	must(t, err)
	defer func() { must(t, conn.CloseLasting()) }()
	conn.FlushRuleset()
	must(t, conn.Flush())
}

func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-tick.C
	}
}

var (
	reject  = []expr.Any{&expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
	letPass = []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}}
)

// Chains that drop by policy or by their last rule let pass what is ours; those that do not are left alone; after a reset
// all of them are as before.
func TestExposeBesideOthers(t *testing.T) {
	h := host(t)
	drops, passes := nftables.ChainPolicyDrop, nftables.ChainPolicyAccept
	docker := stranger(t, h, nftables.TableFamilyIPv4, "filter", "FORWARD", drops, letPass)
	six := stranger(t, h, nftables.TableFamilyIPv6, "filter", "FORWARD", drops)
	firewalld := stranger(t, h, nftables.TableFamilyINet, "firewalld", "filter_FORWARD", passes, letPass, reject)
	quiet := stranger(t, h, nftables.TableFamilyINet, "counts", "forward", passes, []expr.Any{&expr.Counter{}})
	if w := expose(t, h, nil, "10.2.1.10/24", "fd00:1::10/64"); len(w) > 0 {
		t.Error(w)
	}
	v4, v6 := []string{"within", "from 10.2.1.0/24", "to 10.2.1.0/24"}, []string{"from fd00:1::/64", "to fd00:1::/64"}
	check := func(c *nftables.Chain, want []string, theirs int) {
		t.Helper()
		if got, others := oursIn(t, h, c); !slices.Equal(got, want) || others != theirs {
			t.Errorf("in %s %s: %v and %d of theirs, want %v and %d", c.Table.Name, c.Name, got, others, want, theirs)
		}
	}
	for range 2 { // idempotent
		check(docker, v4, 1)
		check(six, append([]string{"within"}, v6...), 0)
		check(firewalld, append(slices.Clone(v4), v6...), 2)
		check(quiet, nil, 1)
		expose(t, h, nil, "10.2.1.10/24", "fd00:1::10/64")
	}
	expose(t, h, exposures("10.2.1.10/24", "fd00:1::10/64"))
	check(docker, []string{"within"}, 1)
	must(t, h.Reset())
	check(docker, nil, 1)
	check(six, nil, 0)
	check(firewalld, nil, 2)
	check(quiet, nil, 1)
}

// What is as it should be is not written again: no rule gets a new handle.
func TestExposeChangesNothingTwice(t *testing.T) {
	h := host(t)
	c := stranger(t, h, nftables.TableFamilyIPv4, "filter", "FORWARD", nftables.ChainPolicyDrop)
	handles := func() (out []uint64) {
		conn, err := h.netfilter()
		must(t, err)
		defer func() { must(t, conn.CloseLasting()) }()
		for _, in := range []*nftables.Chain{c, {Table: h.table(), Name: "postrouting"}, {Table: h.table(), Name: "forward"}} {
			rules, err := conn.GetRules(in.Table, in)
			must(t, err)
			for _, r := range rules {
				out = append(out, r.Handle)
			}
		}
		return out
	}
	expose(t, h, nil, "10.2.1.10/24")
	before := handles()
	expose(t, h, nil, "10.2.1.10/24")
	must(t, h.keepRules())
	if now := handles(); !slices.Equal(now, before) || len(now) != 3+3+1 {
		t.Errorf("handles %v, before %v", now, before)
	}
}

// iptables-save and -restore make matches of our comments: these rules are still ours.
func TestExposeKnowsRestoredRules(t *testing.T) {
	h := host(t)
	info := xt.Comment(h.comment("within"))
	rule := []expr.Any{&expr.Match{Name: "comment", Info: &info}, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}}
	c := stranger(t, h, nftables.TableFamilyIPv4, "filter", "FORWARD", nftables.ChainPolicyDrop, rule, rule)
	expose(t, h, nil)
	if got, theirs := oursIn(t, h, c); !slices.Equal(got, []string{"within"}) || theirs != 0 {
		t.Errorf("%v and %d others", got, theirs)
	}
	must(t, h.Reset())
	if got, theirs := oursIn(t, h, c); len(got)+theirs != 0 {
		t.Errorf("a reset left %v and %d others", got, theirs)
	}
}

// Two daemons of one host do not take each other's rules for theirs.
func TestExposeBesideAnotherDaemon(t *testing.T) {
	h := host(t)
	c := stranger(t, h, nftables.TableFamilyIPv4, "filter", "FORWARD", nftables.ChainPolicyDrop)
	second, err := Open(Config{Bridge: "weave2", Namespace: h.cfg.Namespace}, nil)
	must(t, err)
	defer second.Close()
	must(t, second.EnsureBridge())
	expose(t, h, nil, "10.2.1.10/24")
	expose(t, second, nil, "10.3.1.10/24")
	must(t, second.Reset())
	if got, theirs := oursIn(t, h, c); len(got) != 3 || theirs != 0 {
		t.Errorf("the first one's are %v, beside %d", got, theirs)
	}
}

// Rules that somebody flushes, and chains that somebody makes later, are noticed.
func TestWatchRules(t *testing.T) {
	h := host(t)
	expose(t, h, nil, "10.2.1.10/24")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.WatchRules(ctx) }()
	own := &nftables.Chain{Table: h.table(), Name: "postrouting"}
	whole := func(c *nftables.Chain, n int) {
		t.Helper()
		began := time.Now()
		eventually(t, 5*time.Second, func() error {
			conn, err := h.netfilter()
			must(t, err)
			defer func() { must(t, conn.CloseLasting()) }()
			rules, err := conn.GetRules(c.Table, c)
			if err != nil || len(rules) != n {
				return fmt.Errorf("%d rules in %s %s, want %d (%w)", len(rules), c.Table.Name, c.Name, n, err)
			}
			return nil
		})
		t.Logf("%s %s whole after %v", c.Table.Name, c.Name, time.Since(began).Round(time.Millisecond))
	}
	whole(own, 3)
	for range 3 {
		flush(t, h)
		whole(own, 3)
	}
	whole(stranger(t, h, nftables.TableFamilyIPv4, "filter", "FORWARD", nftables.ChainPolicyDrop), 3)
	whole(stranger(t, h, nftables.TableFamilyINet, "firewalld", "filter_FORWARD", nftables.ChainPolicyAccept, reject), 3+1)
	open := stranger(t, h, nftables.TableFamilyINet, "later", "closed", nftables.ChainPolicyAccept)
	h.mu.Lock()
	_, err := h.assertRules()
	h.mu.Unlock()
	must(t, err)
	whole(open, 0)
	stranger(t, h, nftables.TableFamilyINet, "later", "closed", nftables.ChainPolicyAccept, reject)
	whole(open, 3+1)
	must(t, h.Reset())
	flush(t, h)
	stop()
	select {
	case err := <-ended:
		must(t, err)
	case <-time.After(5 * time.Second):
		t.Fatal("the watch does not end")
	}
	conn, err := h.netfilter()
	must(t, err)
	defer func() { must(t, conn.CloseLasting()) }()
	tables, err := conn.ListTables()
	must(t, err)
	if len(tables) > 0 {
		t.Errorf("rules came back after a reset: %s", tables[0].Name)
	}
}

// Rules of policy routing cost every packet of the host: they are there only where answers need them.
func TestServiceRules(t *testing.T) {
	h := host(t)
	service := runtime.ServiceAddress(runtime.MAC(bridgeMAC))
	const own, all = "net/ipv4/conf/weave/rp_filter", "net/ipv4/conf/all/rp_filter"
	for _, c := range []struct {
		own, all, after string
		bound           bool
		rules           int
	}{{"0", "0", "0", false, 2}, {"0", "0", "0", true, 0}, {"2", "0", "0", true, 0}, {"1", "0", "1", true, 2}, {"0", "2", "0", true, 2}, {"2", "0", "2", false, 2}} {
		must(t, h.space.sysctl(own, c.own))
		must(t, h.space.sysctl(all, c.all))
		must(t, h.EnsureService(service, c.bound))
		list, err := h.space.RuleList(vnl.FAMILY_V4)
		must(t, err)
		n := 0
		for _, r := range list {
			if r.Src != nil && r.Src.IP.String() == service.String() {
				n++
			}
		}
		if after := readSysctl(t, h.space, own); n != c.rules || after != c.after {
			t.Errorf("%+v: %d rules, rp_filter %s", c, n, after)
		}
	}
}

// Addresses come and go; those that somebody else gave the bridge stay, the service address too.
func TestExposeAddresses(t *testing.T) {
	h := host(t)
	link, err := h.space.LinkByName("weave")
	must(t, err)
	must(t, h.space.AddrAdd(link, &vnl.Addr{IPNet: ipNet(netip.MustParsePrefix("10.9.0.1/24"))}))
	service := runtime.ServiceAddress(runtime.MAC(bridgeMAC))
	must(t, h.EnsureService(service, false))
	had := []runtime.Exposure(nil)
	for _, step := range [][]string{{"10.2.1.10/24", "10.2.1.11/24", "fd00:1::10/64"}, {"10.2.1.11/24", "10.3.1.10/24"}, nil} {
		expose(t, h, had, step...)
		had = exposures(step...)
		want := append([]string{"10.9.0.1/24", service.String() + "/32"}, step...)
		_, addresses, _, err := h.Bridge()
		must(t, err)
		var got []string
		for _, a := range addresses {
			got = append(got, a.String())
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("the bridge has %v, want %v", got, want)
		}
	}
}

func TestExposeRefusals(t *testing.T) {
	h := host(t)
	a := vnl.NewLinkAttrs()
	a.Name = "eth0"
	must(t, h.space.LinkAdd(&vnl.Veth{LinkAttrs: a, PeerName: "eth0peer"}))
	link, err := h.space.LinkByName("eth0")
	must(t, err)
	must(t, h.space.AddrAdd(link, &vnl.Addr{IPNet: ipNet(netip.MustParsePrefix("192.168.1.5/24"))}))
	_, err = h.Expose(exposures("192.168.1.9/24"), nil)
	if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "192.168.1.0/24, by 192.168.1.5 of eth0") {
		t.Error(err)
	}
	if _, got, _ := h.Exposed(); len(got) > 0 {
		t.Errorf("refused, and there nevertheless: %v", got)
	}
	must(t, h.Reset())
	if _, err := h.Expose(exposures("10.2.1.10/24"), nil); !errors.Is(err, unix.ENODEV) && !gone(err) {
		t.Error("without a bridge: ", err)
	}
}

// The kernel tracks connections for answers from Docker's bridge only where there is one: tracking costs every packet.
func TestExposeTracksForDockerOnly(t *testing.T) {
	h := host(t)
	expose(t, h, nil)
	go func() { _ = h.WatchRules(t.Context()) }()
	labels := func() []string {
		conn, err := h.netfilter()
		must(t, err)
		defer func() { must(t, conn.CloseLasting()) }()
		rules, err := conn.GetRules(h.table(), &nftables.Chain{Table: h.table(), Name: "forward"})
		must(t, err)
		return h.labels(rules)
	}
	not := "not from " + runtime.DockerBridge
	if got := labels(); !slices.Equal(got, []string{not}) {
		t.Errorf("without Docker's bridge: %q", got)
	}
	a := vnl.NewLinkAttrs()
	a.Name = runtime.DockerBridge
	must(t, h.space.LinkAdd(&vnl.Bridge{LinkAttrs: a}))
	want := []string{"answers from " + runtime.DockerBridge, not}
	var got []string
	for end := time.Now().Add(patience); time.Now().Before(end) && !slices.Equal(got, want); {
		got = labels()
	}
	if !slices.Equal(got, want) {
		t.Errorf("with it: %q", got)
	}
}

// The host forwards, and still heeds its routers' advertisements.
func TestExposeForwards(t *testing.T) {
	h := host(t)
	a := vnl.NewLinkAttrs()
	a.Name = "eth0"
	must(t, h.space.LinkAdd(&vnl.Veth{LinkAttrs: a, PeerName: "eth0peer"}))
	sysctls := func() (out []string) {
		for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/eth0/accept_ra", "net/ipv6/conf/weave/accept_ra"} {
			out = append(out, readSysctl(t, h.space, key))
		}
		return out
	}
	must(t, h.space.sysctl("net/ipv4/ip_forward", "0"))
	must(t, h.space.sysctl("net/ipv6/conf/all/forwarding", "0"))
	must(t, h.space.sysctl("net/ipv6/conf/eth0/accept_ra", "1"))
	expose(t, h, nil)
	if got := fmt.Sprint(sysctls()); got != "[0 0 1 0]" {
		t.Error("without an address: ", got)
	}
	expose(t, h, nil, "10.2.1.10/24")
	if got := fmt.Sprint(sysctls()); got != "[1 0 1 0]" {
		t.Error("with an IPv4 address: ", got)
	}
	expose(t, h, nil, "10.2.1.10/24", "fd00:1::10/64")
	if got := fmt.Sprint(sysctls()); got != "[1 1 2 0]" {
		t.Error("with an IPv6 address: ", got)
	}
}
