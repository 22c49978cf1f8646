package netlink

import (
	"fmt"
	"net"
	goruntime "runtime"
	"testing"
	"time"
	"unsafe"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// Long frames are for namespaces of ours in which nobody looks at packets, and the way there has room for them.
func TestTakesLong(t *testing.T) {
	const size = 140000
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	if takes, _, err := h.TakesLong(target, size); takes || err == nil {
		t.Errorf("a namespace that is not attached: %v, %v", takes, err)
	}
	attach(t, h, attachment(target, "10.2.1.5/24"))
	outer := func() vnl.Link {
		link, err := h.space.LinkByName(runtime.HostVeth(target.ID))
		must(t, err)
		return link
	}
	limit := outer().Attrs().GSOIPv4MaxSize
	supported := limit > 0 // Linux 6.3
	want := func(what string, want bool) {
		t.Helper()
		if takes, _, err := h.TakesLong(target, size); takes != (want && supported) || err != nil {
			t.Errorf("%s: %v, %v", what, takes, err)
		}
	}
	in := inside(t, target.Path)
	var fd int
	must(t, in.run(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	want("with a packet socket", false)
	if got := outer().Attrs().GSOIPv4MaxSize; got != limit {
		t.Errorf("limit %d for what takes no long frames", got)
	}
	must(t, unix.Close(fd))
	want("without", true)
	if got := outer().Attrs().GSOIPv4MaxSize; supported && got < size {
		t.Errorf("limit %d", got)
	}
	want("again", true)
	_, before, err := h.TakesLong(target, size)
	must(t, err)
	forward(t, in, "10.2.1.77:9")
	for until := time.Now().Add(patience); supported; time.Sleep(time.Millisecond) {
		_, after, err := h.TakesLong(target, size)
		must(t, err)
		if after == before+1 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("forwarded %d, before %d", after, before)
		}
	}
	if got := outer().Attrs().GSOMaxSize; got > 1<<16 {
		t.Errorf("IPv6 has the limit too: %d", got)
	}
	link, err := in.LinkByName(runtime.Inner)
	must(t, err)
	t.Run("XDP", func(t *testing.T) {
		program := passAll(t)
		must(t, in.run(func() error { return vnl.LinkSetXdpFd(link, program) }))
		want("with a program", false)
		must(t, in.run(func() error { return vnl.LinkSetXdpFd(link, -1) }))
		want("without it", true)
	})
	must(t, in.LinkDel(link))
	if takes, _, err := h.TakesLong(target, size); takes || err == nil {
		t.Errorf("without an interface: %v, %v", takes, err)
	}
}

// forward makes a namespace a router, and has it forward one packet from behind it.
func forward(t *testing.T, router *space, to string) {
	t.Helper()
	behind := inside(t, newNamespace(t))
	pair := vnl.NewVeth(vnl.NewLinkAttrs())
	pair.Name, pair.PeerName, pair.PeerNamespace = "r0", "r1", vnl.NsFd(behind.file.Fd())
	must(t, router.LinkAdd(pair))
	for i, s := range []*space{router, behind} {
		link, err := s.LinkByName(fmt.Sprintf("r%d", i))
		must(t, err)
		addr, err := vnl.ParseAddr(fmt.Sprintf("192.0.2.%d/24", i+1))
		must(t, err)
		must(t, s.AddrAdd(link, addr))
		must(t, s.LinkSetUp(link))
	}
	must(t, behind.RouteAdd(&vnl.Route{Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Gw: net.IPv4(192, 0, 2, 1)}))
	must(t, router.sysctl("net/ipv4/ip_forward", "1"))
	must(t, behind.run(func() error {
		c, err := net.Dial("udp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("forward this"))
		return err
	}))
}

// passAll loads an XDP program that passes everything: r0 = XDP_PASS; exit (bpf(2), linux/bpf.h).
func passAll(t *testing.T) int {
	t.Helper()
	program := [...]uint64{2<<32 | 0xb7, 0x95}
	license := [...]byte{'G', 'P', 'L', 0}
	attr := struct {
		kind, count      uint32
		program, licence uint64
		_                [10]uint64
	}{
		kind: unix.BPF_PROG_TYPE_XDP, count: uint32(len(program)),
		program: uint64(uintptr(unsafe.Pointer(&program))), licence: uint64(uintptr(unsafe.Pointer(&license))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	goruntime.KeepAlive(&program)
	goruntime.KeepAlive(&license)
	if errno == unix.EPERM {
		t.Skip("programs for the kernel need root")
	}
	if errno != 0 {
		t.Fatal("load a program:", errno)
	}
	t.Cleanup(func() { _ = unix.Close(int(fd)) })
	return int(fd)
}
