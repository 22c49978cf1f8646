package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reflect turns a frame read from a TAP into the same packet coming back: Ethernet and IP addresses swapped. TCP and UDP
// checksums survive that, partial ones too. ARP requests are answered. nil means no answer.
func reflect(p []byte) []byte {
	f := p[HeaderLen:]
	if len(f) < 34 {
		return nil
	}
	swap := func(b []byte, n int) {
		tmp := bytes.Clone(b[:n])
		copy(b, b[n:2*n])
		copy(b[n:], tmp)
	}
	switch binary.BigEndian.Uint16(f[12:]) {
	case 0x0806:
		if f[21] != 1 || !bytes.Equal(f[38:42], farAddr.AsSlice()) {
			return nil
		}
		asker := bytes.Clone(f[22:32])
		copy(f, asker[:6])
		copy(f[6:], farMAC)
		f[21] = 2
		copy(f[22:], farMAC)
		copy(f[28:], farAddr.AsSlice())
		copy(f[32:], asker)
	case 0x0800:
		swap(f, 6)
		swap(f[26:], 4)
	default:
		return nil
	}
	return p
}

// serve answers whatever answer answers until the device is closed.
func serve(t *testing.T, q *Queue, answer func(p []byte) []byte) {
	stopped := make(chan struct{})
	t.Cleanup(func() { <-stopped })
	go func() {
		defer close(stopped)
		buf := make([]byte, MaxPacket)
		for {
			n, err := readPacket(q, buf)
			if err != nil {
				if !errors.Is(err, os.ErrClosed) {
					t.Error(err)
				}
				return
			}
			if p := answer(buf[:n]); p != nil {
				if err := q.WriteV([][]byte{p[:HeaderLen], p[HeaderLen:]}); err != nil && !errors.Is(err, os.ErrClosed) {
					t.Error(err)
				}
			}
		}
	}()
}

// A program pings through the TAP; ARP and ICMP are answered here.
func TestPing(t *testing.T) {
	ping, err := exec.LookPath("ping")
	if err != nil {
		t.Skip("there is no ping on this machine")
	}
	backends(t, func(t *testing.T, b Backend) {
		ns := newNamespace(t)
		d := open(t, Config{Backend: b, Namespace: ns})
		must(t, inNamespace(ns, func() error { return forget(d.Name()) }))
		serve(t, d.Queues()[0], func(p []byte) []byte {
			if p = reflect(p); p != nil && p[HeaderLen+12] == 0x08 && p[HeaderLen+13] == 0 && p[HeaderLen+34] == 8 {
				p[HeaderLen+34] = 0 // echo reply: 8 less in the sum
				sum := p[HeaderLen+36:]
				binary.BigEndian.PutUint16(sum, ^fold(uint32(^binary.BigEndian.Uint16(sum))+uint32(^uint16(0x0800))))
			}
			return p
		})
		t.Cleanup(func() { d.Close() })
		must(t, inNamespace(ns, func() error {
			// The child starts in the namespace of the thread that forks it.
			out, err := exec.Command(ping, "-n", "-c", "3", "-i", "0.01", "-W", "2", farAddr.String()).CombinedOutput()
			t.Logf("%s", out)
			return err
		}))
	})
}

// dial connects a TCP socket in the namespace to itself by way of the TAP: farAddr's segments come back with the
// addresses swapped, so that the kernel talks to its own listener.
func dial(t *testing.T, ns string) (client, server net.Conn) {
	t.Helper()
	var l *net.TCPListener
	must(t, inNamespace(ns, func() (err error) {
		l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(tapPrefix.Addr(), 5000)))
		return err
	}))
	defer l.Close()
	must(t, l.SetDeadline(time.Now().Add(patience)))
	accepted := make(chan error, 1)
	go func() {
		var err error
		server, err = l.Accept()
		accepted <- err
	}()
	must(t, inNamespace(ns, func() (err error) {
		client, err = net.DialTimeout("tcp4", netip.AddrPortFrom(farAddr, 5000).String(), patience)
		return err
	}))
	must(t, <-accepted)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// A TCP stream goes out through the TAP and comes back in: with offloads as super-frames with partial checksums, both
// ways; through the fallback as ordinary frames. The bytes arrive.
func TestStream(t *testing.T) {
	backends(t, func(t *testing.T, b Backend) {
		ns := newNamespace(t)
		d := open(t, Config{Backend: b, Namespace: ns})
		largest, partial := 0, 0
		finished := make(chan struct{})
		serve(t, d.Queues()[0], func(p []byte) []byte {
			select {
			case <-finished:
			default:
				largest = max(largest, len(p)-HeaderLen)
				if header(p).needsCsum() {
					partial++
				}
			}
			return reflect(p)
		})
		t.Cleanup(func() { d.Close() })
		client, server := dial(t, ns)
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
		go func() {
			client.Write(data)
			client.(*net.TCPConn).CloseWrite()
		}()
		must(t, server.SetReadDeadline(time.Now().Add(4*patience)))
		got, err := io.ReadAll(server)
		close(finished)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d of %d bytes came: %v", len(got), len(data), err)
		}
		d.Close()
		t.Logf("largest frame %d bytes, %d with partial checksum; %+v", largest, partial, d.Stats())
		if offloads := largest > 1514 && partial > 0; offloads != d.Offloads() {
			t.Errorf("largest frame %d, %d partial, offloads %v", largest, partial, d.Offloads())
		}
	})
}

// Super-frames of a neighbour with offloads, written to a fallback TAP, reach the application: TCP as above but with the
// frames read from a TAP with offloads and written to one without, and back.
//
//	sender's namespace: tap0 (kernel) <==> tap0 (water): receiver's namespace
func TestFallbackTakesSuperFrames(t *testing.T) {
	near := newNamespace(t)
	far := newNamespace(t)
	a := open(t, Config{Backend: Kernel, Namespace: near})
	w := open(t, Config{Backend: Water, Namespace: far})
	join := func(from, to *Queue) {
		stopped := make(chan struct{})
		t.Cleanup(func() { <-stopped })
		go func() {
			defer close(stopped)
			buf := make([]byte, MaxPacket)
			for {
				n, err := readPacket(from, buf)
				if err != nil {
					return
				}
				// Both TAPs have the same addresses: each sees the other as farAddr.
				if p := reflect(buf[:n]); p != nil {
					if copy(p[HeaderLen:], tapMAC); to.WriteV([][]byte{p[:20], p[20:]}) != nil {
						return
					}
				}
			}
		}()
	}
	join(a.Queues()[0], w.Queues()[0])
	join(w.Queues()[0], a.Queues()[0])
	t.Cleanup(func() { a.Close(); w.Close() })

	var l *net.TCPListener
	must(t, inNamespace(far, func() (err error) {
		l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(tapPrefix.Addr(), 5000)))
		return err
	}))
	defer l.Close()
	must(t, l.SetDeadline(time.Now().Add(patience)))
	data := bytes.Repeat([]byte("fedcba9876543210"), 1<<16)
	sent := make(chan error, 1)
	go func() {
		sent <- inNamespace(near, func() error {
			c, err := net.DialTimeout("tcp4", netip.AddrPortFrom(farAddr, 5000).String(), patience)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(data)
			return err
		})
	}()
	server, err := l.Accept()
	must(t, err)
	defer server.Close()
	must(t, server.SetReadDeadline(time.Now().Add(4*patience)))
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes came: %v", len(got), len(data), err)
	}
	must(t, <-sent)
	if s := w.Stats(); s.DroppedRefused > 0 {
		t.Errorf("%+v", s)
	}
}

// UDP super-frames where the kernel has them: one send with UDP_SEGMENT comes out as one packet.
func TestUDPSuperFrame(t *testing.T) {
	ns := newNamespace(t)
	d := open(t, Config{Backend: Kernel, Namespace: ns})
	if !d.UDPSegmentation() {
		t.Skip("this kernel's TAP has no UDP segmentation offload")
	}
	conn := udpSocket(t, ns)
	raw, err := conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1000) }))
	must(t, err)
	_, err = conn.WriteToUDPAddrPort(make([]byte, 10_000), netip.AddrPortFrom(farAddr, 9))
	must(t, err)
	p := readUntil(t, d, d.Queues()[0], func([]byte) bool { return true })
	h := header(p)
	if h.gsoType() != unix.VIRTIO_NET_HDR_GSO_UDP_L4 || h.gsoSize() != 1000 || len(p) != HeaderLen+14+20+8+10_000 || !h.needsCsum() {
		t.Fatalf("%x", p[:HeaderLen])
	}
	// The fallback's segmenter makes of it what the kernel would have.
	s := newSegmenter()
	if !s.load([][]byte{p[:30], p[30:]}) {
		t.Fatal("refused")
	}
	n := 0
	for f := s.next(); f != nil; f = s.next() {
		n++
		checkSums(t, f[0], 17)
		if len(f[0]) != 14+20+8+1000 {
			t.Fatal(len(f[0]))
		}
	}
	if n != 10 {
		t.Fatal(n, "segments")
	}
}

// checkSums checks the sums of an IPv4 frame without options.
func checkSums(t *testing.T, f []byte, protocol uint32) {
	t.Helper()
	if fold(add(0, f[14:34])) != 0xffff {
		t.Fatalf("IP checksum of %x", f)
	}
	if got := fold(add(add(protocol+uint32(len(f)-34), f[26:34]), f[34:])); got != 0xffff {
		t.Fatalf("checksum of %x", f)
	}
	if got := int(binary.BigEndian.Uint16(f[16:])); got != len(f)-14 {
		t.Fatalf("IP length %d of %d", got, len(f))
	}
}
