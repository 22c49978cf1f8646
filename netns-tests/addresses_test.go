package netnstests

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"weave/netns-tests/lab"
)

// attached makes a container, has it attached and returns the address printed.
func attached(t *testing.T, h *lab.Host, args ...string) (*lab.Container, string) {
	t.Helper()
	c, err := h.NewContainer()
	must(t, err)
	return c, attachTo(t, h, c, args...)
}

// attachTo is attach, which may have to wait for other hosts and say so.
func attachTo(t *testing.T, h *lab.Host, c *lab.Container, args ...string) string {
	t.Helper()
	r := h.Weave(append(append([]string{"attach"}, args...), c.Name)...)
	if r.RC != 0 || r.Err != nil {
		t.Fatalf("on host%d: %v", h.Index, r)
	}
	return strings.TrimSpace(r.Stdout)
}

// Three hosts give out addresses: none twice, each container reaches each.
//
//	c, c ── host1 ═══ host2 ── c, c        (host3 as well)
func TestAddressesOnThreeHosts(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 3}, "--ipalloc-range", "10.32.0.0/16")
	seen := map[string]*lab.Container{}
	var last *lab.Container
	for range 2 {
		for _, h := range l.Hosts {
			c, ip := attached(t, h)
			if a, err := netip.ParseAddr(ip); err != nil || !netip.MustParsePrefix("10.32.0.0/16").Contains(a) {
				t.Fatalf("attach printed %q", ip)
			}
			if seen[ip] != nil {
				t.Fatalf("%s was given out twice", ip)
			}
			seen[ip], last = c, c
		}
	}
	if seen["10.32.0.1"] == nil {
		t.Errorf("the lowest address was not given out: %v", seen)
	}
	for ip, c := range seen {
		if c != last {
			pings(t, last, ip, soon)
		}
	}
	for _, h := range l.Hosts {
		status := run(t, h, "status")
		if !strings.Contains(status, "        Service: ipam\n         Status: ready\n          Range: 10.32.0.0/16\n  DefaultSubnet: 10.32.0.0/16\n") {
			t.Errorf("status:\n%s", status)
		}
	}
	checkShares(t, l.Hosts)
}

var shareLine = regexp.MustCompile(`^(..:..:..:..:..:..\(\S+\)) +(\d+) IPs \(\d\d\.\d% of total\) (\(\d+ active\)|- unreachable!|)$`)

// checkShares waits until all hosts show the same shares, which add up to the range.
func checkShares(t *testing.T, hosts []*lab.Host) {
	t.Helper()
	eventually(t, settle, func() error {
		var first []string
		for _, h := range hosts {
			var lines []string
			sum := 0
			for line := range strings.Lines(run(t, h, "status", "ipam")) {
				m := shareLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
				if m == nil {
					return fmt.Errorf("status ipam has the line %q", line)
				}
				var n int
				if _, err := fmt.Sscan(m[2], &n); err != nil {
					return err
				}
				if n > 0 {
					lines = append(lines, m[1]+" "+m[2])
				}
				sum += n
			}
			slices.Sort(lines)
			if first == nil {
				first = lines
			}
			if sum != 1<<16 || !slices.Equal(lines, first) {
				return fmt.Errorf("host%d: %d addresses, %q and %q", h.Index, sum, lines, first)
			}
		}
		return nil
	})
}

// The same container keeps its address; a detached one is free again; several
// ways at once; both families work.
//
//	c1, c2 ── host1
func TestAddressLife(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h, "--ipalloc-range", "10.32.0.0/16", "--ipalloc-default-subnet", "10.32.1.0/24")
	c1, ip := attached(t, h)
	if ip != "10.32.1.1" {
		t.Errorf("attach printed %q", ip)
	}
	if again := attachTo(t, h, c1, "net:default"); again != ip {
		t.Errorf("attached again: %q", again)
	}
	if got := attachTo(t, h, c1, "net:10.32.2.0/24", "ip:10.32.3.7/24", "10.9.9.9/24"); got != "10.32.2.1 10.32.3.7 10.9.9.9" {
		t.Errorf("several at once: %q", got)
	}
	if l := ethwe(t, c1); !slices.Equal(l.Addrs, []string{"10.32.1.1/24", "10.32.2.1/24", "10.32.3.7/24", "10.9.9.9/24"}) {
		t.Errorf("ethwe has %v", l.Addrs)
	}
	c2, ip2 := attached(t, h)
	if ip2 != "10.32.1.2" {
		t.Errorf("the second container got %q", ip2)
	}
	pings(t, c2, "10.32.1.1", soon)
	pings(t, c2, v6Of(t, c1, "10.32.1.1"), soon)
	refused(t, h, 1, "Unable to claim: address 10.32.1.1/24 is already owned by ", "attach", "10.32.1.1/24", c2.Name)
	if out := run(t, h, "detach", c1.Name); out != "10.32.1.1\n" {
		t.Errorf("detach printed %q", out)
	}
	if _, ip := attached(t, h); ip != "10.32.1.1" {
		t.Errorf("what was detached is not free: %q", ip)
	}
	if out := run(t, h, "detach", "net:10.32.2.0/24", "10.32.3.7/24", "10.9.9.9/24", c1.Name); out != "10.32.2.1 10.32.3.7 10.9.9.9\n" {
		t.Errorf("detach printed %q", out)
	}
	if _, there := look(t, c1.NS, "ethwe"); there {
		t.Error("ethwe outlived its last address")
	}
	if out := run(t, h, "detach", c1.Name); out != "\n" {
		t.Errorf("detach of nothing printed %q", out)
	}
}

// v6Of finds the IPv6 address that ends in the IPv4 address.
func v6Of(t *testing.T, c *lab.Container, ip string) string {
	t.Helper()
	r := c.Run(t.Context(), nil, "", "ip", "-6", "-o", "addr", "show", "dev", "ethwe", "scope", "global")
	want := netip.MustParseAddr(ip).As4()
	for _, f := range strings.Fields(r.Stdout) {
		p, err := netip.ParsePrefix(f)
		if err != nil || !p.Addr().Is6() {
			continue
		}
		if b := p.Addr().As16(); [4]byte(b[12:]) == want && b[0] == 0xfd {
			return p.Addr().String()
		}
	}
	t.Fatalf("no IPv6 address for %s: %v", ip, r)
	return ""
}

// A namespace that ends gives its addresses back, after a while in which they
// may be claimed but are not given to others.
//
//	c1 † ── host1
func TestAddressOfDeadContainer(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h)
	proc := exec.Command("unshare", "-n", "sleep", "infinity")
	must(t, h.Start(proc))
	pid := strconv.Itoa(proc.Process.Pid)
	var ip string
	eventually(t, soon, func() error { // until it is in a namespace of its own
		r := h.Weave("attach", pid)
		ip = strings.TrimSpace(r.Stdout)
		if r.RC != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	must(t, proc.Process.Kill())
	_ = proc.Wait()
	c2, err := h.NewContainer()
	must(t, err)
	if _, other := attached(t, h); other == ip {
		t.Errorf("%s is held, but was given out", ip)
	}
	eventually(t, settle, func() error {
		if r := h.Weave("attach", ip+"/12", c2.Name); r.RC != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

// Restarts, kills and upgrades change no address and give none out twice.
//
//	c1 ── host1 (stopped, killed, launched) ═══ host2 ── c2
func TestAddressesSurviveRestart(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 2}, "--ipalloc-range", "10.32.0.0/16")
	h1, h2 := l.Hosts[0], l.Hosts[1]
	c1, ip1 := attached(t, h1)
	c2, ip2 := attached(t, h2)
	checkShares(t, l.Hosts)
	before := run(t, h1, "status", "ipam")
	for _, end := range []func(){
		func() { run(t, h1, "stop") },
		func() { must(t, h1.KillAll()) },
	} {
		end()
		launch(t, h1, h2.IP, "--ipalloc-range", "10.32.0.0/16")
		waitMesh(t, h1, h2)
		same := func() error {
			if now := run(t, h1, "status", "ipam"); now != before {
				return fmt.Errorf("status ipam:\n%s\nbefore:\n%s", now, before)
			}
			return nil
		}
		eventually(t, soon, same)
		if again := attachTo(t, h1, c1); again != ip1 {
			t.Errorf("the container's address was %s, now %s", ip1, again)
		}
		if _, ip := attached(t, h1); ip == ip1 || ip == ip2 {
			t.Errorf("%s was given out twice", ip)
		}
		before = run(t, h1, "status", "ipam")
	}
	pings(t, c2, ip1, soon)
}

// A dead host's addresses go to whoever is told to take them; a host that was
// removed while it was away comes back as a new one.
//
//	c1 ── host1 ═══ host2 ═══ host3 (†, back) ── c3
func TestRmpeer(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 3}, "--ipalloc-range", "10.32.0.0/24")
	h1, h2, h3 := l.Hosts[0], l.Hosts[1], l.Hosts[2]
	for _, h := range l.Hosts {
		attached(t, h)
	}
	nick := regexp.MustCompile(`\((\S+)\)`).FindStringSubmatch(run(t, h3, "status", "ipam"))[1]
	refused(t, h1, 1, "is reachable", "rmpeer", nick)
	must(t, h3.KillAll())
	waitConnected(t, h1, 1)
	waitConnected(t, h2, 1)
	eventually(t, settle, func() error {
		if out := run(t, h1, "status", "ipam"); !strings.Contains(out, "- unreachable!") {
			return fmt.Errorf("status ipam:\n%s", out)
		}
		return nil
	})
	out := h1.Weave("rmpeer", nick).Stdout
	if !regexp.MustCompile(`^[1-9]\d* IPs taken over from ` + nick + `\n$`).MatchString(out) {
		t.Errorf("rmpeer printed %q", out)
	}
	for _, h := range []*lab.Host{h1, h2} {
		if out := h.Weave("rmpeer", nick).Stdout; out != "0 IPs taken over from "+nick+"\n" {
			t.Errorf("a second rmpeer printed %q", out)
		}
	}
	if out := run(t, h1, "rmpeer", "nobody"); out != "0 IPs taken over from nobody\n" {
		t.Errorf("rmpeer of nobody printed %q", out)
	}
	launch(t, h3, "--ipalloc-range", "10.32.0.0/24", h1.IP)
	waitMesh(t, l.Hosts...)
	eventually(t, settle, func() error {
		if !strings.Contains(h3.Log(), "this peer was removed from the network while it was away") {
			return fmt.Errorf("host3 does not say that it was removed")
		}
		return nil
	})
	c, ip := attached(t, h3)
	pings(t, c, "10.32.0.1", soon)
	for _, h := range []*lab.Host{h1, h2} {
		if _, other := attached(t, h); other == ip {
			t.Errorf("%s was given out twice", ip)
		}
	}
}

// Both sides of a partition go on with what they have, and are one again.
//
//	host1 ═══ host2 ╳ host3
func TestAddressesInPartition(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 3}, "--ipalloc-range", "10.32.0.0/16")
	seen := map[string]bool{}
	give := func() {
		for _, h := range l.Hosts {
			_, ip := attached(t, h)
			if seen[ip] {
				t.Fatalf("%s was given out twice", ip)
			}
			seen[ip] = true
		}
	}
	give()
	must(t, l.Partition(l.Hosts[:2], l.Hosts[2:]))
	waitConnected(t, l.Hosts[0], 1)
	give()
	must(t, l.Partition(l.Hosts))
	waitMesh(t, l.Hosts...)
	give()
	checkShares(t, l.Hosts)
}

// A reset hands the addresses over.
//
//	host1 (reset) ═══ host2
func TestResetHandsOver(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 2}, "--ipalloc-range", "10.32.0.0/16")
	h1, h2 := l.Hosts[0], l.Hosts[1]
	for _, h := range l.Hosts {
		attached(t, h)
	}
	run(t, h1, "reset")
	eventually(t, soon, func() error {
		if out := run(t, h2, "status", "ipam"); !strings.Contains(out, "   65536 IPs (100.0% of total) (1 active)") {
			return fmt.Errorf("status ipam:\n%s", out)
		}
		return nil
	})
}

// Seeds need nobody, observers wait for others; without IPv6 there is none.
//
//	host1 (seed)   host2 (seed)   host3 (observer)
func TestSeedsAndObserver(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	h1, h2, h3 := l.Hosts[0], l.Hosts[1], l.Hosts[2]
	seed := []string{"--ipalloc-range", "10.32.0.0/16", "--ipalloc-init", "seed=::1,::2", "--ipv6=false"}
	launch(t, h1, append([]string{"--name", "::1"}, seed...)...)
	launch(t, h2, append([]string{"--name", "::2"}, seed...)...)
	c1, ip1 := attached(t, h1)
	_, ip2 := attached(t, h2)
	if ip1 != "10.32.0.1" || ip2 != "10.32.128.0" {
		t.Errorf("the seeds gave out %s and %s", ip1, ip2)
	}
	if out := run(t, h1, "ps", c1.Name); !strings.HasSuffix(out, " 10.32.0.1/16\n") {
		t.Errorf("ps prints %q", out)
	}
	launch(t, h3, "--ipalloc-range", "10.32.0.0/16", "--ipalloc-init", "observer")
	if r := h3.Weave("prime", "--wait", "4s"); r.RC != 1 || !strings.Contains(r.Stderr, "waiting: this peer is an observer") {
		t.Errorf("prime of a lonely observer: %v", r)
	}
	run(t, h3, "connect", h1.IP, h2.IP)
	if r := h3.Weave("prime", "--wait", "30s"); r.RC != 0 {
		t.Errorf("prime: %v", r)
	}
	attached(t, h3)
	waitMesh(t, l.Hosts...)
	checkShares(t, l.Hosts)
}
