package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience bounds every wait for the kernel.
const patience = 5 * time.Second

// newNamespace makes a network namespace that lives as long as the test, and returns a path to it.
func newNamespace(t testing.TB) string {
	t.Helper()
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result)
	go func() {
		goruntime.LockOSThread() // and never unlocked: the thread dies with its namespace entered
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{err: err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		made <- result{f, err}
	}()
	r := <-made
	if errors.Is(r.err, unix.EPERM) {
		t.Skip("network namespaces need root, or a run inside unshare -Urnm:", r.err)
	}
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.file.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.file.Fd())
}

var (
	tapMAC    = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	farMAC    = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	tapPrefix = netip.MustParsePrefix("10.77.0.1/24")
	farAddr   = netip.MustParseAddr("10.77.0.2")
)

// open opens a TAP in a namespace of its own, with IPv6 off (the kernel says nothing of its own accord), tapPrefix on it
// and farAddr a permanent neighbour.
func open(t testing.TB, cfg Config) *Device {
	t.Helper()
	if cfg.Namespace == "" {
		cfg.Namespace = newNamespace(t)
	}
	if _, err := os.Stat(devicePath); errors.Is(err, os.ErrNotExist) {
		t.Skip("this machine has no ", devicePath)
	}
	cfg.Name, cfg.MAC = "tap0", tapMAC
	must(t, inNamespace(cfg.Namespace, func() error {
		return ignoreMissing(os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0))
	}))
	d, err := Open(cfg)
	if errors.Is(err, os.ErrPermission) {
		t.Skip("opening a TAP needs rights that this user does not have:", err)
	}
	must(t, err)
	t.Cleanup(func() { d.Close() })
	must(t, inNamespace(cfg.Namespace, func() error { return address(d.Name()) }))
	return d
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func address(name string) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	ip := &net.IPNet{IP: tapPrefix.Addr().AsSlice(), Mask: net.CIDRMask(24, 32)}
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: ip}); err != nil {
		return err
	}
	return h.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: farAddr.AsSlice(), HardwareAddr: farMAC,
	})
}

// forget makes the kernel ask for farAddr by ARP.
func forget(name string) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	return h.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: farAddr.AsSlice()})
}

func remove(name string) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	return h.LinkDel(link)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readUntil reads packets until one is wanted; a reader that gets none is stopped by closing the device.
func readUntil(t *testing.T, d *Device, q *Queue, wanted func(frame []byte) bool) []byte {
	t.Helper()
	timer := time.AfterFunc(patience, func() { d.Close() })
	defer timer.Stop()
	buf := make([]byte, MaxPacket)
	for {
		n, err := readPacket(q, buf)
		if err != nil {
			t.Fatal("no such packet came: ", err)
		}
		if wanted(buf[HeaderLen:n]) {
			return bytes.Clone(buf[:n])
		}
	}
}

// readPacket is TryRead that waits.
func readPacket(q *Queue, buf []byte) (int, error) {
	for {
		n, err := q.TryRead(buf)
		if n > 0 || err != nil {
			return n, err
		}
		err = q.Control(func(fd uintptr) {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			_, _ = unix.Poll(fds, 20) // milliseconds: a close does not wake it
		})
		if err != nil {
			return 0, err
		}
	}
}

// udpSocket opens a UDP socket in the device's namespace.
func udpSocket(t testing.TB, ns string) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	must(t, inNamespace(ns, func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(tapPrefix.Addr(), 4000)))
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// udpFrame is a UDP datagram from farAddr to the TAP's address, complete but for the checksum, which is absent.
func udpFrame(payload []byte) []byte {
	f := append(append([]byte(nil), tapMAC...), farMAC...)
	f = append(f, 0x08, 0x00)
	ip := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0}
	ip = append(append(ip, farAddr.AsSlice()...), tapPrefix.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(ip[2:], uint16(20+8+len(payload)))
	binary.BigEndian.PutUint16(ip[10:], ^fold(add(0, ip)))
	f = append(f, ip...)
	f = append(f, 0x0f, 0xa1, 0x0f, 0xa0) // 4001 to 4000
	f = binary.BigEndian.AppendUint16(f, uint16(8+len(payload)))
	f = append(f, 0, 0)
	return append(f, payload...)
}

func backends(t *testing.T, test func(t *testing.T, b Backend)) {
	for _, b := range []Backend{Kernel, Water} {
		t.Run(b.String(), func(t *testing.T) { test(t, b) })
	}
}

// What every backend does.
func TestConformance(t *testing.T) {
	backends(t, func(t *testing.T, b Backend) {
		ns := newNamespace(t)
		d := open(t, Config{Backend: b, Namespace: ns, MTU: 1376})
		if d.Name() != "tap0" || d.MTU() != 1376 || d.Backend() != b || d.Offloads() != (b == Kernel) || len(d.Queues()) != 1 {
			t.Fatalf("%+v", d)
		}
		q := d.Queues()[0]
		conn := udpSocket(t, ns)
		t.Run("nothing there", func(t *testing.T) {
			if n, err := q.TryRead(make([]byte, MaxPacket)); n != 0 || err != nil {
				t.Fatal(n, err)
			}
		})
		t.Run("out of the kernel", func(t *testing.T) {
			for range 2 {
				_, err := conn.WriteToUDPAddrPort([]byte("marker"), netip.AddrPortFrom(farAddr, 9))
				must(t, err)
				buf := bytes.Repeat([]byte{0xee}, MaxPacket)
				n, err := readPacket(q, buf)
				must(t, err)
				if n != HeaderLen+14+20+8+6 || string(buf[n-6:n]) != "marker" || !bytes.Equal(buf[HeaderLen:HeaderLen+6], farMAC) {
					t.Fatalf("%x", buf[:n])
				}
				if b == Water && !bytes.Equal(buf[:HeaderLen], make([]byte, HeaderLen)) {
					t.Fatalf("header %x", buf[:HeaderLen])
				}
			}
		})
		t.Run("into the kernel", func(t *testing.T) {
			f := udpFrame([]byte("hello"))
			for _, parts := range [][][]byte{
				{append(make([]byte, HeaderLen), f...)},
				{make([]byte, HeaderLen), f[:20], nil, f[20:]},
			} {
				must(t, q.WriteV(parts))
				got := make([]byte, 100)
				must(t, conn.SetReadDeadline(time.Now().Add(patience)))
				n, err := conn.Read(got)
				if err != nil || string(got[:n]) != "hello" {
					t.Fatal(string(got[:n]), err)
				}
			}
		})
		t.Run("nonsense is counted", func(t *testing.T) {
			before := d.Stats()
			must(t, q.WriteV(nil))
			must(t, q.WriteV([][]byte{{1, 2, 3}}))
			must(t, q.WriteV([][]byte{make([]byte, HeaderLen)}))
			after := d.Stats()
			if after.DroppedRefused != before.DroppedRefused+3 || after.WrittenPackets != before.WrittenPackets {
				t.Fatalf("%+v", after)
			}
		})
		t.Run("close", func(t *testing.T) { closed(t, d) })
	})
}

func closed(t *testing.T, d *Device) {
	q := d.Queues()[0]
	must(t, d.Close())
	if _, err := q.TryRead(make([]byte, MaxPacket)); !errors.Is(err, os.ErrClosed) {
		t.Error("TryRead:", err)
	}
	if err := q.WriteV([][]byte{make([]byte, 64)}); !errors.Is(err, os.ErrClosed) {
		t.Error("WriteV:", err)
	}
	if err := d.Close(); !errors.Is(err, os.ErrClosed) {
		t.Error("Close:", err)
	}
}

// A frame for an interface that is down is a drop.
func TestDown(t *testing.T) {
	backends(t, func(t *testing.T, b Backend) {
		ns := newNamespace(t)
		d := open(t, Config{Backend: b, Namespace: ns, LeaveDown: true})
		must(t, d.Queues()[0].WriteV([][]byte{make([]byte, HeaderLen), udpFrame(nil)}))
		if s := d.Stats(); s.DroppedDown != 1 || s.WrittenPackets != 0 {
			t.Fatalf("%+v", s)
		}
	})
}

// No call allocates on the way of a plain frame.
func TestNoAllocation(t *testing.T) {
	backends(t, func(t *testing.T, b Backend) {
		ns := newNamespace(t)
		d := open(t, Config{Backend: b, Namespace: ns})
		q := d.Queues()[0]
		f := udpFrame([]byte("hello"))
		parts := [][]byte{make([]byte, HeaderLen), f[:34], f[34:]}
		check := func(what string, fn func()) {
			if n := testing.AllocsPerRun(200, fn); n != 0 {
				t.Errorf("%s allocates %v times", what, n)
			}
		}
		check("WriteV", func() { must(t, q.WriteV(parts)) })
		buf := make([]byte, MaxPacket)
		for n := 1; n > 0; { // what the kernel answered
			var err error
			n, err = q.TryRead(buf)
			must(t, err)
		}
		check("TryRead of nothing", func() {
			_, err := q.TryRead(buf)
			must(t, err)
		})
		conn := udpSocket(t, ns)
		to := netip.AddrPortFrom(farAddr, 9)
		check("TryRead", func() {
			_, err := conn.WriteToUDPAddrPort(f[:4], to)
			must(t, err)
			if n, err := q.TryRead(buf); n == 0 || err != nil {
				t.Fatal(n, err)
			}
		})
	})
}
