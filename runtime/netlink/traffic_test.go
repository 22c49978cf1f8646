package netlink

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weave/runtime"
)

// patience bounds every wait for the kernel.
const patience = 10 * time.Second

// listenUDP opens a socket in a namespace.
func listenUDP(t *testing.T, s *space, addr string) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	must(t, s.run(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 7000)))
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// Two containers reach each other as soon as Attach returns, over IPv4 and IPv6: no listening state of the bridge and no
// duplicate address detection is waited for.
//
//	c1 ethwe .1 ==== vethwepl… bridge weave vethwepl… ==== .2 ethwe c2
func TestTrafficAtOnce(t *testing.T) {
	h := host(t)
	var in []*space
	for i := range 2 {
		target := resolved(t, h, newNamespace(t))
		attach(t, h, attachment(target, fmt.Sprintf("10.2.1.%d/24", i+1), fmt.Sprintf("fd00:1::%d/64", i+1)))
		in = append(in, inside(t, target.Path))
	}
	for _, network := range []string{"10.2.1.%d", "fd00:1::%d"} {
		a, b := fmt.Sprintf(network, 1), fmt.Sprintf(network, 2)
		from, to := listenUDP(t, in[0], a), listenUDP(t, in[1], b)
		_, err := from.WriteToUDPAddrPort([]byte("hello"), netip.AddrPortFrom(netip.MustParseAddr(b), 7000))
		must(t, err)
		buf := make([]byte, 10)
		n, peer, err := to.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != "hello" || peer.Addr().Unmap() != netip.MustParseAddr(a) {
			t.Fatal(network, string(buf[:n]), peer, err)
		}
	}
}

// Each new address is announced on the bridge, to everyone.
func TestAnnounced(t *testing.T) {
	h := host(t)
	fd := listenPackets(t, h.space, "weave")
	target := resolved(t, h, newNamespace(t))
	a := attachment(target, "10.2.1.5/24", "fd00:1::5/64")
	attach(t, h, a)
	mac := inspect(t, h, target).MAC
	waitFor(t, fd, runtime.Announcement(mac, a.Addresses[0].Addr()), runtime.Announcement(mac, a.Addresses[1].Addr()))
	more := attachment(target, "10.3.1.5/24")
	attach(t, h, more)
	waitFor(t, fd, runtime.Announcement(mac, more.Addresses[0].Addr()))
}

func listenPackets(t *testing.T, s *space, name string) int {
	t.Helper()
	link, err := s.LinkByName(name)
	must(t, err)
	all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8 // network byte order
	var fd int
	must(t, s.run(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
		return err
	}))
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}))
	tv := unix.NsecToTimeval(patience.Nanoseconds())
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
	return fd
}

// readPacket reads the next packet. A socket with a time limit is never restarted after a signal (signal(7)), and Go's
// scheduler sends signals.
func readPacket(fd int, buf []byte) (n int, err error) {
	for {
		if n, err = unix.Read(fd, buf); err != unix.EINTR {
			return n, err
		}
	}
}

func waitFor(t *testing.T, fd int, frames ...[]byte) {
	t.Helper()
	buf := make([]byte, 2000)
	for len(frames) > 0 {
		n, err := readPacket(fd, buf)
		if err != nil {
			t.Fatalf("%d announcements did not come: %v", len(frames), err)
		}
		frames = slices.DeleteFunc(frames, func(f []byte) bool { return bytes.Equal(f, buf[:n]) })
	}
}

// IPv6 refused is a warning beside IPv4, an error without. An MTU below 1280 makes the kernel refuse.
func TestIPv6Refused(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	small := attachment(target, "fd00:1::5/64")
	small.MTU = 1200
	if w, err := h.Attach(t.Context(), small); err == nil {
		t.Fatal("attached", w)
	}
	if l := links(t, inside(t, target.Path)); len(l) != 0 {
		t.Fatal(l)
	}
	both := attachment(target, "10.2.1.5/24", "fd00:1::5/64")
	both.MTU = 1200
	warnings := attach(t, h, both)
	if len(warnings) != 1 || !strings.Contains(warnings[0], "address fd00:1::5/64 was not added: IPv6 needs an MTU of 1280") {
		t.Fatal(warnings)
	}
	if got := fmt.Sprint(inspect(t, h, target).Addresses); got != "[10.2.1.5/24]" {
		t.Fatal(got)
	}
	if !noIPv6(unix.EACCES) || noIPv6(unix.EPERM) {
		t.Fatal("errors mistaken")
	}
}

// Someone renamed the inner end: the name of the host's end is taken by a veth that leads nowhere.
func TestRenamedInnerEnd(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	a := attachment(target, "10.2.1.5/24")
	attach(t, h, a)
	in := inside(t, target.Path)
	link, err := in.LinkByName("ethwe")
	must(t, err)
	must(t, in.LinkSetDown(link))
	must(t, in.LinkSetName(link, "mine"))
	if inspect(t, h, target).Present {
		t.Fatal("present under another name")
	}
	attach(t, h, a)
	if l := links(t, in); !slices.Equal(l, []string{"ethwe"}) {
		t.Fatal(l)
	}
}

// Many containers come and go at once.
func TestConcurrent(t *testing.T) {
	h := host(t)
	var targets []runtime.Target
	for range 8 {
		targets = append(targets, resolved(t, h, newNamespace(t)))
	}
	var group sync.WaitGroup
	for i, target := range targets {
		group.Go(func() {
			a := attachment(target, fmt.Sprintf("10.2.1.%d/24", i+1))
			if _, err := h.Attach(t.Context(), a); err != nil {
				t.Error(err)
			}
			if seen, err := h.Inspect(target); err != nil || !seen.Present {
				t.Error(seen, err)
			}
			if err := h.Detach(t.Context(), target, a.Addresses); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if l := links(t, h.space); !slices.Equal(l, []string{"weave"}) {
		t.Fatal(l)
	}
}

// Without a namespace given, the host is the process's own.
func TestOwnNamespaceIsHost(t *testing.T) {
	h, err := Open(Config{}, nil)
	if errors.Is(err, os.ErrPermission) {
		t.Skip("entering network namespaces needs root, or a run inside unshare -Urnm:", err)
	}
	must(t, err)
	defer h.Close()
	for _, target := range []string{fmt.Sprint(os.Getpid()), "/proc/self/ns/net"} {
		if _, err := h.Resolve(target); !errors.Is(err, ErrHostNamespace) {
			t.Error(target, err)
		}
	}
}

// A name under /run/netns that is used again by another namespace is not the container that was attached.
func TestNameUsedAgain(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	attach(t, h, attachment(target, "10.2.1.5/24"))
	target.Path = newNamespace(t)
	if _, err := h.Inspect(target); !errors.Is(err, ErrNoTarget) {
		t.Error(err)
	}
	if _, err := h.Attach(t.Context(), attachment(target, "10.2.1.6/24")); !errors.Is(err, ErrNoTarget) {
		t.Error(err)
	}
	if err := h.Detach(t.Context(), target, nil); !errors.Is(err, ErrNoTarget) {
		t.Error(err)
	}
}
