package tun

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Flows spread over the queues; whichever queue a packet is written to, it arrives.
func TestMultiQueue(t *testing.T) {
	const queues = 4
	ns := newNamespace(t)
	d := open(t, Config{Backend: Kernel, Namespace: ns, Queues: queues})
	if len(d.Queues()) != queues {
		t.Fatal(len(d.Queues()))
	}
	conn := udpSocket(t, ns)
	for i, q := range d.Queues() {
		must(t, q.WriteV([][]byte{make([]byte, HeaderLen), udpFrame([]byte{byte(i)})}))
		got := make([]byte, 10)
		must(t, conn.SetReadDeadline(time.Now().Add(patience)))
		if n, err := conn.Read(got); n != 1 || err != nil || got[0] != byte(i) {
			t.Fatal(got[:n], err)
		}
	}
	const flows = 64
	for port := range uint16(flows) {
		_, err := conn.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(farAddr, 7000+port))
		must(t, err)
	}
	var perQueue []int
	total := 0
	for _, q := range d.Queues() {
		n, buf := 0, make([]byte, MaxPacket)
		for {
			got, err := q.TryRead(buf)
			must(t, err)
			if got == 0 {
				break
			}
			n++
		}
		total += n
		perQueue = append(perQueue, n)
	}
	if total != flows || slices.Max(perQueue) == flows {
		t.Errorf("packets of %d flows per queue: %v", flows, perQueue)
	}
	closed(t, d)
}

// Writers need not know of each other.
func TestConcurrentWriters(t *testing.T) {
	backends(t, func(t *testing.T, b Backend) {
		d := open(t, Config{Backend: b})
		const writers, each = 8, 200
		done := make(chan error, writers)
		for range writers {
			go func() {
				f := udpFrame(make([]byte, 100))
				for range each {
					if err := d.Queues()[0].WriteV([][]byte{make([]byte, HeaderLen), f[:14], f[14:]}); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range writers {
			must(t, <-done)
		}
		if s := d.Stats(); s.WrittenPackets != writers*each || s.WrittenBytes != writers*each*142 {
			t.Fatalf("%+v", s)
		}
	})
}

// A descriptor opened by someone else works as well; one that is no TAP of the right kind is refused.
func TestFromFile(t *testing.T) {
	ns := newNamespace(t)
	open(t, Config{Backend: Kernel, Namespace: ns}).Close() // skips where TAPs cannot be opened
	var fd int
	must(t, inNamespace(ns, func() (err error) {
		if fd, err = openTun(); err != nil {
			return err
		}
		_, err = attach(fd, "tap0", false)
		return err
	}))
	d, err := FromFile(fd)
	must(t, err)
	if d.Name() != "tap0" || !d.Offloads() || len(d.Queues()) != 1 {
		t.Fatalf("%+v", d)
	}
	must(t, d.Queues()[0].WriteV([][]byte{make([]byte, HeaderLen+60)}))
	if d.Stats().DroppedDown != 1 {
		t.Fatalf("%+v", d.Stats())
	}
	closed(t, d)

	file, err := os.Open("/dev/null")
	must(t, err)
	other, err := unix.Dup(int(file.Fd()))
	must(t, err)
	file.Close()
	if _, err := FromFile(other); err == nil {
		t.Fatal("adopted /dev/null")
	}
	if err := unix.Close(other); err == nil {
		t.Fatal("descriptor leaked")
	}
}

// The interface stays after Close if asked, and can be opened again; a second opener is told what is wrong.
func TestPersistAndBusy(t *testing.T) {
	backends(t, func(t *testing.T, b Backend) {
		ns := newNamespace(t)
		d := open(t, Config{Backend: b, Namespace: ns, Persist: true})
		if _, err := Open(Config{Name: "tap0", Namespace: ns, Backend: b}); !errors.Is(err, unix.EBUSY) {
			t.Fatal(err)
		}
		must(t, d.Close())
		d, err := Open(Config{Name: "tap0", Namespace: ns, Backend: b})
		must(t, err)
		must(t, d.Close())
	})
}

func TestAutoTakesKernel(t *testing.T) {
	d := open(t, Config{Backend: Auto})
	if d.Backend() != Kernel && d.Fallback() == nil {
		t.Fatal(d.Backend(), "for no reason")
	}
}

func TestParseBackend(t *testing.T) {
	for _, b := range []Backend{Auto, Kernel, Water} {
		if got, err := ParseBackend(b.String()); got != b || err != nil {
			t.Error(got, err)
		}
	}
	if _, err := ParseBackend("ovs"); err == nil {
		t.Error("parsed nonsense")
	}
}

func TestBadConfig(t *testing.T) {
	for _, cfg := range []Config{
		{Name: "a-name-that-is-too-long"}, {Backend: 9}, {Namespace: "/no/such/namespace"}, {Namespace: "/dev/null"},
	} {
		if d, err := Open(cfg); err == nil {
			d.Close()
			t.Errorf("opened %+v", cfg)
		}
	}
}

// The interface goes away under the reader and the writer: both are told, neither hangs.
func TestInterfaceGone(t *testing.T) {
	ns := newNamespace(t)
	d := open(t, Config{Backend: Kernel, Namespace: ns})
	must(t, inNamespace(ns, func() error { return remove(d.Name()) }))
	q := d.Queues()[0]
	read := make(chan error, 1)
	go func() {
		_, err := readPacket(q, make([]byte, MaxPacket))
		read <- err
	}()
	select {
	case err := <-read:
		if err == nil {
			t.Error("read a packet")
		}
	case <-time.After(patience):
		t.Error("Read hangs")
	}
	if err := q.WriteV([][]byte{make([]byte, 64)}); err == nil || errors.Is(err, os.ErrClosed) {
		t.Error("WriteV:", err)
	}
}
