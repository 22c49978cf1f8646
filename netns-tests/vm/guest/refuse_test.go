package guest

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weave/netns-tests/lab"
)

const marker = "MARKER-of-a-stranger"

// vxlan is a VXLAN packet as the UDP payload: a broadcast frame with the marker.
func vxlan() []byte {
	head := []byte{8, 0, 0, 0, 0, 0, 7, 0} // the network is that of tunnel
	return append(head, lab.Frame(lab.Broadcast(), net.HardwareAddr{2, 0, 0, 0, 0, 9}, 0x88b5, []byte(marker))...)
}

// VXLAN in clear from the peer's address is not taken, by a shield with keys or without: whether the peer itself sends it or
// a stranger with the peer's address. The control shows that it would be without a shield.
func TestClearIsRefused(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *pair) {
		p.a.tunnel()
		inside, err := p.a.Sniff("vx0", marker)
		must(t, err)
		send := func(h *lab.Host) {
			t.Helper()
			must(t, h.Do(func() error { return sendFrom(p.b, p.a) }))
		}
		send(p.b.Host)
		eventually(t, func() error {
			if inside.Seen().Marked == 0 {
				return errors.New("the control did not come in")
			}
			return nil
		})
		control := inside.Seen().Marked
		a, b := handshake(t)
		stranger := p.lab.Hosts[2]
		must(t, strangerAs(stranger, p.b))
		for _, keys := range []bool{false, true} {
			if keys {
				p.a.shield(a)
			} else {
				p.a.shield()
			}
			for range 5 {
				send(p.b.Host)
				send(stranger)
			}
		}
		before := p.a.dropped()
		for range 5 {
			send(p.b.Host)
			send(stranger)
		}
		eventually(t, func() error { // they have come as far as the policy
			if n := p.a.dropped() - before; n < 10 {
				return errors.New("not all have come")
			}
			return nil
		})
		p.b.tunnel()
		p.b.shield(b)
		p.b.reaches(p.a) // and what the peer sends as it must comes in
		if n := inside.Stop().Marked; n != control {
			t.Errorf("%d packets in clear were taken", n-control)
		}
	})
}

// sendFrom sends VXLAN in clear from an address of `from` to `to`; the sender may not own it.
func sendFrom(from, to *end) error { return sendPayload(from, to, vxlan()) }

func sendPayload(from, to *end, payload []byte) error {
	family, src, dst := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: v4(from)}), unix.Sockaddr(&unix.SockaddrInet4{Addr: v4(to), Port: vxlanPort})
	if from.local.Is6() {
		family, src, dst = unix.AF_INET6, &unix.SockaddrInet6{Addr: from.local.As16()}, &unix.SockaddrInet6{Addr: to.local.As16(), Port: vxlanPort}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, src); err != nil {
		return err
	}
	return unix.Sendto(fd, payload, 0, dst)
}

func v4(e *end) (a [4]byte) {
	if e.local.Is4() {
		a = e.local.As4()
	}
	return a
}

// dropped is how much of what came was refused: by the packet filter, where there is one, or by IPsec, because it was not as
// a policy demands.
func (e *end) dropped() int {
	e.t.Helper()
	n := e.xfrmStat("XfrmInTmplMismatch")
	if e.Run(context.Background(), nil, "", "nft", "list", "table", "inet", "weave-esp").RC == 0 {
		n += e.filtered("input")
	}
	return n
}

// A host whose way to the peer changes, and with it the address that it sends from, sends nothing in clear: there is no
// state for that address.
func TestAnotherAddressOfOurs(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *pair) {
		a, b := handshake(t)
		p.a.shield(a)
		p.b.shield(b)
		p.a.tunnel()
		p.b.tunnel()
		p.a.reaches(p.b)
		other, old, bits := "10.99.0.77", p.a.IP+"/24", "/24"
		if p.a.local.Is6() {
			other, old, bits = "fd99::77", p.a.IP6+"/64", "/64"
		}
		must(t, p.a.Sysctl("net/ipv4/conf/all/promote_secondaries", "1"), p.a.AddAddr("eth0", other+bits), p.a.DelAddr("eth0", old))
		before := p.a.xfrmStat("XfrmOutNoStates")
		eventually(t, func() error {
			_, _ = p.a.Ping(p.b.overlay, 56, 100*time.Millisecond)
			if p.a.xfrmStat("XfrmOutNoStates") == before {
				return errors.New("nothing was refused")
			}
			return nil
		})
		p.wire.neverClear(t)
		must(t, p.a.AddAddr("eth0", old), p.a.DelAddr("eth0", other+bits))
		p.a.reaches(p.b)
		p.wire.neverClear(t)
	})
}

// An interface that a setting takes out of IPsec is seen before anything is trusted to it.
func TestExemptInterface(t *testing.T) {
	p := newPair(t, false)
	for _, key := range []string{"net/ipv4/conf/eth0/disable_xfrm", "net/ipv4/conf/all/disable_policy"} {
		must(t, p.a.Sysctl(key, "1"))
		if s := p.a.kernel.ShieldSupport(); s.IPv4 == "" || s.IPv6 != "" {
			t.Errorf("with %s: %+v", key, s)
		}
		must(t, p.a.Sysctl(key, "0"))
	}
}
