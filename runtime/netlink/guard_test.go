package netlink

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"weave/runtime"
)

// guardRig is a guarded namespace, and another that sees what it sends.
type guardRig struct {
	t    *testing.T
	host *Host
	at   runtime.Attachment
	from *space
	link int
	fd   int
	next uint32
}

func newGuardRig(t *testing.T, guarded bool) *guardRig {
	t.Helper()
	h := host(t)
	r := &guardRig{t: t, host: h}
	r.at = attachment(resolved(t, h, newNamespace(t)), "10.2.1.1/24", "fd00:1::1/64")
	r.at.MAC, r.at.Guarded = runtime.MAC{2, 0, 0, 0, 0, 1}, guarded
	attach(t, h, r.at)
	other := resolved(t, h, newNamespace(t))
	attach(t, h, attachment(other, "10.2.1.2/24"))
	r.from = inside(t, r.at.Target.Path)
	link, err := r.from.LinkByName(runtime.Inner)
	must(t, err)
	r.link = link.Attrs().Index
	r.fd = listenPackets(t, inside(t, other.Path), runtime.Inner)
	return r
}

// passes sends a frame and one that nobody stops, and tells whether the first arrived before the second.
func (r *guardRig) passes(frame []byte) bool {
	r.t.Helper()
	r.next++
	marker := r.frame(0x88b5, binary.BigEndian.AppendUint32(make([]byte, 0, 60), r.next))
	must(r.t, r.from.send(r.link, frame))
	must(r.t, r.from.send(r.link, marker))
	buf := make([]byte, 2000)
	arrived := false
	for {
		n, err := readPacket(r.fd, buf)
		must(r.t, err)
		if slices.Equal(buf[:min(n, len(marker))], marker) {
			return arrived
		}
		arrived = arrived || slices.Equal(buf[:12], frame[:12]) && slices.Equal(buf[n-8:n], frame[len(frame)-8:])
	}
}

// frame is one of the guarded namespace's, to a MAC that nobody has.
func (r *guardRig) frame(kind uint16, body []byte) []byte {
	f := append([]byte{2, 0, 0, 0, 0, 0xee}, r.at.MAC[:]...)
	f = append(binary.BigEndian.AppendUint16(f, kind), body...)
	for len(f) < 60 {
		f = append(f, byte(r.next)) // distinct from others
	}
	return f
}

func (r *guardRig) ip4(src string) []byte {
	b := append([]byte{0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0}, netip.MustParseAddr(src).AsSlice()...)
	b = append(b, 10, 2, 1, 99)
	binary.BigEndian.PutUint16(b[10:], checksum(b)) // where bridge-netfilter is on, it looks
	return r.frame(unix.ETH_P_IP, append(b, make([]byte, 26)...))
}

func (r *guardRig) ip6(src string, proto byte, body ...byte) []byte {
	b := []byte{0x60, 0, 0, 0, 0, byte(len(body)), proto, 255}
	b = append(append(b, netip.MustParseAddr(src).AsSlice()...), netip.MustParseAddr("ff02::1").AsSlice()...)
	return r.frame(unix.ETH_P_IPV6, append(b, body...))
}

func (r *guardRig) nd(kind byte, src, target string, option byte, mac runtime.MAC) []byte {
	b := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, netip.MustParseAddr(target).AsSlice()...)
	if option > 0 {
		b = append(append(b, option, 1), mac[:]...)
	}
	return r.ip6(src, unix.IPPROTO_ICMPV6, b...)
}

func (r *guardRig) arp(mac runtime.MAC, sender string) []byte {
	b := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, mac[:]...)
	b = append(append(b, netip.MustParseAddr(sender).AsSlice()...), 0, 0, 0, 0, 0, 0, 10, 2, 1, 2)
	return r.frame(unix.ETH_P_ARP, b)
}

func (r *guardRig) tagged(frame []byte) []byte {
	return slices.Concat(frame[:12], []byte{0x81, 0, 0, 5}, frame[12:])
}

// cases are frames, and whether a guard passes them.
func (r *guardRig) cases() map[string]struct {
	pass  bool
	frame []byte
} {
	own, theirs := r.at.MAC, runtime.MAC{2, 0, 0, 0, 0, 9}
	foreign, nothing := r.ip4("10.2.1.1"), make([]byte, 16)
	copy(foreign[6:], theirs[:])
	type one = struct {
		pass  bool
		frame []byte
	}
	return map[string]one{
		"IPv4":                               {true, r.ip4("10.2.1.1")},
		"another's IPv4":                     {false, r.ip4("10.2.1.2")},
		"no address yet":                     {true, r.ip4("0.0.0.0")},
		"another's MAC":                      {false, foreign},
		"ARP":                                {true, r.arp(own, "10.2.1.1")},
		"ARP probe":                          {true, r.arp(own, "0.0.0.0")},
		"ARP of another's address":           {false, r.arp(own, "10.2.1.2")},
		"ARP of another's MAC":               {false, r.arp(theirs, "10.2.1.1")},
		"IPv6":                               {true, r.ip6("fd00:1::1", 59, nothing...)},
		"another's IPv6":                     {false, r.ip6("fd00:1::2", 59, nothing...)},
		"link-local":                         {true, r.ip6("fe80::ff:fe00:1", 59, nothing...)},
		"another's link-local":               {false, r.ip6("fe80::ff:fe00:9", 59, nothing...)},
		"solicitation":                       {true, r.nd(135, "fd00:1::1", "fd00:1::2", 1, own)},
		"solicitation with another's MAC":    {false, r.nd(135, "fd00:1::1", "fd00:1::2", 1, theirs)},
		"detection of duplicates":            {true, r.nd(135, "::", "fd00:1::1", 0, own)},
		"advertisement":                      {true, r.nd(136, "fd00:1::1", "fd00:1::1", 2, own)},
		"advertisement of another's address": {false, r.nd(136, "fd00:1::1", "fd00:1::2", 2, own)},
		"advertisement of another's MAC":     {false, r.nd(136, "fd00:1::1", "fd00:1::1", 2, theirs)},
		"as a router":                        {false, r.nd(134, "fe80::ff:fe00:1", "fd00:1::2", 0, own)},
		"redirect":                           {false, r.nd(137, "fe80::ff:fe00:1", "fd00:1::2", 0, own)},
		"behind a header":                    {false, r.ip6("fd00:1::1", 60, append([]byte{58, 0, 1, 4, 0, 0, 0, 0}, r.nd(136, "fd00:1::1", "fd00:1::2", 2, own)[54:]...)...)},
		"in a VLAN":                          {true, r.tagged(r.ip4("10.2.1.1"))},
		"another's, in a VLAN":               {false, r.tagged(r.ip4("10.2.1.2"))},
		"in two VLANs":                       {false, r.tagged(r.tagged(r.ip4("10.2.1.1")))},
		"another protocol":                   {true, r.frame(0x88b6, make([]byte, 46))},
	}
}

// A guarded namespace can call itself nothing but what it is; the same frames pass where there is no guard.
func TestGuard(t *testing.T) {
	for _, guarded := range []bool{true, false} {
		r := newGuardRig(t, guarded)
		for what, c := range r.cases() {
			if got, want := r.passes(c.frame), c.pass || !guarded; got != want {
				t.Errorf("%s, guarded %v: passes is %v", what, guarded, got)
			}
		}
		if n := r.host.Spoofed(); (n > 0) != guarded {
			t.Errorf("guarded %v: %d were counted", guarded, n)
		}
	}
}

// The guard follows addresses that come and go, and is there again when somebody takes it away.
func TestGuardFollows(t *testing.T) {
	r := newGuardRig(t, true)
	want := func(pass bool, address, when string) {
		t.Helper()
		if r.passes(r.ip4(address)) != pass {
			t.Errorf("%s %s: passes is %v", when, address, !pass)
		}
	}
	want(false, "10.3.1.1", "at first")
	more := r.at
	more.Addresses = []netip.Prefix{netip.MustParsePrefix("10.3.1.1/24")}
	attach(t, r.host, more)
	want(true, "10.3.1.1", "attached")
	want(true, "10.2.1.1", "with another address")
	must(t, r.host.Detach(t.Context(), r.at.Target, more.Addresses))
	want(false, "10.3.1.1", "detached")
	want(true, "10.2.1.1", "with one address less")
	conn, err := r.host.netfilter()
	must(t, err)
	conn.FlushRuleset()
	must(t, conn.Flush())
	must(t, conn.CloseLasting())
	want(true, "10.3.1.1", "flushed")
	must(t, r.host.keepRules())
	want(false, "10.3.1.1", "made again")
	_, err = r.host.Reconcile(t.Context(), []runtime.Attachment{r.at})
	must(t, err)
	want(false, "10.3.1.1", "reconciled")
	plain := r.at
	plain.Guarded = false
	attach(t, r.host, plain)
	want(true, "10.3.1.1", "without a guard")
	attach(t, r.host, r.at)
	must(t, r.host.Detach(t.Context(), r.at.Target, nil))
	if seen, err := r.host.lookAtTable("weave"); err != nil || seen.there {
		t.Errorf("the table is there without guards: %v, %v", seen, err)
	}
}
