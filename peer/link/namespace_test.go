package link

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// On a path of 1500 bytes: what fits goes, what does not is reported with the
// kernel's MTU, once per destination, and nothing is fragmented.
func TestTooBigIsReported(t *testing.T) {
	if !isolated(t) {
		return
	}
	loopback(t, 1500)
	for _, c := range []struct {
		network string
		cfg     Config
		fits    int
	}{
		{"udp4", Config{}, 1472},
		{"udp6", Config{}, 1452},
		{"udp4", Config{DisableGSO: true}, 1472},
		{"udp6", Config{DisableGSO: true}, 1452},
	} {
		t.Run(c.network+variant(c.cfg), func(t *testing.T) {
			a, b := open(t, c.network, c.cfg), open(t, c.network, c.cfg)
			x, r := a.NewSender(64), b.NewReceiver(8)
			to, big := b.LocalAddr(), fill(20*(c.fits+1), 1)
			fine := fill(20*c.fits, 2)
			x.Add(to, big[:c.fits+1], 0)
			x.Add(to, fine, c.fits)
			x.Add(to, big, c.fits+1)
			x.Add(to, fine[:c.fits], 0)
			res := x.Flush()
			if res.Sent != 21 || res.Errors != 21 || res.LastError != unix.EMSGSIZE || res.GSORefused != 0 {
				t.Fatalf("flush: %+v", res)
			}
			if len(res.TooBig) != 1 || res.TooBig[0] != (TooBig{To: to, Size: c.fits + 1, MTU: 1500}) {
				t.Fatalf("too big: %+v", res.TooBig)
			}
			want := append(cut(fine, c.fits), fine[:c.fits])
			if !equal(collect(t, r, a.LocalAddr(), len(want)), want) {
				t.Fatal("datagrams differ")
			}
			if st := a.Stats(); st.TooBig != 21 || st.SendErrors != 0 {
				t.Fatalf("stats: %+v", st)
			}
		})
	}
}

// A neighbour that does not answer holds datagrams in the send buffer. Flush
// gives up after a moment and says so.
func TestFullSendBufferDoesNotBlock(t *testing.T) {
	if !isolated(t) {
		return
	}
	loopback(t, 65536)
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "quiet0"}, PeerName: "quiet1"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Skipf("no veth here: %v", err)
	}
	addr, _ := netlink.ParseAddr("192.0.2.1/24")
	if err := netlink.AddrAdd(veth, addr); err != nil {
		t.Fatal(err)
	}
	peer, err := netlink.LinkByName("quiet1")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []netlink.Link{veth, peer} {
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Listen(Config{Network: "udp4", SendBuffer: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	x := s.NewSender(64)
	for range 64 {
		x.Add(netip.MustParseAddrPort("192.0.2.2:9"), fill(1000, 0), 0)
	}
	res := x.Flush()
	if res.Stalled == 0 || res.Sent+res.Stalled != 64 || res.Errors != res.Stalled {
		t.Fatalf("flush: %+v", res)
	}
	if st := s.Stats(); st.Stalled != uint64(res.Stalled) || st.SendErrors != 0 {
		t.Fatalf("stats: %+v", st)
	}
}

// With IPv6 switched off the error is one the caller can tell.
func TestMissingFamily(t *testing.T) {
	if !isolated(t) {
		return
	}
	loopback(t, 65536)
	for _, scope := range []string{"all", "lo"} {
		path := "/proc/sys/net/ipv6/conf/" + scope + "/disable_ipv6"
		if err := os.WriteFile(path, []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Skip(err)
		}
	}
	s, err := Listen(Config{Network: "udp6", Bind: netip.MustParseAddrPort("[::1]:0")})
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, ErrFamily) {
		t.Fatalf("got %v, want ErrFamily", err)
	}
}
