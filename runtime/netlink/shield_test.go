package netlink

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"weave/runtime"
)

// Where the kernel has no IPsec, that is said, nothing that is wanted is believed to be there, and to want nothing is no
// error. Where it has, what is said to work does. netns-tests/vm/guest looks at what passes.
func TestShieldWhereThereIsNone(t *testing.T) {
	h := host(t)
	support := h.ShieldSupport()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_XFRM)
	has := err == nil
	if has {
		unix.Close(fd)
	}
	t.Logf("this kernel: IPv4: %q, IPv6: %q", support.IPv4, support.IPv6)
	for _, c := range []struct{ local, peer, reason string }{
		{"192.0.2.1", "192.0.2.2", support.IPv4}, {"2001:db8::1", "2001:db8::2", support.IPv6},
	} {
		s := runtime.Shield{Local: netip.MustParseAddr(c.local), Peer: netip.MustParseAddr(c.peer), Out: &runtime.ESPKey{SPI: 4000}}
		if got := support.For(s.Peer); got != c.reason {
			t.Errorf("for %v: %q, want %q", s.Peer, got, c.reason)
		}
		if !has && !strings.Contains(c.reason, "no IPsec") {
			t.Errorf("no NETLINK_XFRM, but %q", c.reason)
		}
		failed, err := h.Shield(6784, []runtime.Shield{s})
		if works := err == nil && len(failed) == 0; works != (c.reason == "") {
			t.Errorf("%q, but a shield gives %v, failed %v", c.reason, err, failed)
		}
		if c.reason != "" && (len(failed) != 1 || failed[0] != s.Peer) {
			t.Errorf("failed: %v", failed)
		}
	}
	if failed, err := h.Shield(6784, nil); err != nil || len(failed) > 0 {
		t.Errorf("to want nothing: %v, %v", failed, err)
	}
}

// A shield that makes no sense is refused, and keeps no other from being made.
func TestShieldRefused(t *testing.T) {
	h := host(t)
	bad := runtime.Shield{Local: netip.MustParseAddr("127.0.0.1"), Peer: netip.MustParseAddr("192.0.2.3")}
	good := runtime.Shield{Local: netip.MustParseAddr("192.0.2.1"), Peer: netip.MustParseAddr("192.0.2.2"), Out: &runtime.ESPKey{SPI: 4000}}
	failed, err := h.Shield(6784, []runtime.Shield{bad, good})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1") || failed[0] != bad.Peer {
		t.Errorf("%v, failed %v", err, failed)
	}
	if works := h.ShieldSupport().IPv4 == ""; works != (len(failed) == 1) {
		t.Errorf("the other one: failed %v", failed)
	}
}

// Daemons in one namespace know their own by their bridges.
func TestReqid(t *testing.T) {
	a, b := reqidOf("weave"), reqidOf("weave2")
	if a == b || a>>24 != 0x77 || b>>24 != 0x77 {
		t.Errorf("%#x, %#x", a, b)
	}
}
