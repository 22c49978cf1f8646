package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weave/netns-tests/lab"
)

// vxlanPort is where the tests' VXLAN goes, tunnelPort the daemons' kernel WireGuard.
const (
	vxlanPort  = 6784
	tunnelPort = 6785
)

// wire watches the underlay.
type wire struct {
	tap  *lab.Tap
	done chan struct{}

	mu   sync.Mutex
	seen crossed
}

// crossed counts packets on the underlay. Each is seen at more than one port of its bridge.
type crossed struct {
	clear, esp int
	spis       map[uint32]int
	wireguard  int // of the kernel's
	handshakes int // of these, those that begin one
}

func watch(t *testing.T, l *lab.Lab) *wire {
	t.Helper()
	tap, err := l.Under.OpenTap("")
	must(t, err)
	w := &wire{tap: tap, done: make(chan struct{}), seen: crossed{spis: map[uint32]int{}}}
	go w.run()
	t.Cleanup(func() { _ = w.stop() })
	return w
}

// stop ends the watch; a second time it does nothing.
func (w *wire) stop() error {
	err := w.tap.Close()
	<-w.done
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

func (w *wire) run() {
	defer close(w.done)
	for {
		frame, err := w.tap.Next(time.Time{})
		if err != nil {
			return
		}
		proto, payload := unwrap(frame)
		w.mu.Lock()
		switch {
		case proto == unix.IPPROTO_ESP && len(payload) >= 8:
			w.seen.esp++
			w.seen.spis[binary.BigEndian.Uint32(payload)]++
		case proto != unix.IPPROTO_UDP || len(payload) < 9:
		case binary.BigEndian.Uint16(payload[2:]) == vxlanPort:
			w.seen.clear++
		case binary.BigEndian.Uint16(payload[2:]) == tunnelPort:
			w.seen.wireguard++
			if payload[8] == 1 {
				w.seen.handshakes++
			}
		}
		w.mu.Unlock()
	}
}

// unwrap finds the protocol above IP in a frame; a fragment counts as that of its packet.
func unwrap(frame []byte) (proto byte, payload []byte) {
	if len(frame) < 14+20 {
		return 0, nil
	}
	ip := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		return ip[9], ip[min(len(ip), int(ip[0]&15)*4):]
	case unix.ETH_P_IPV6:
		if len(ip) > 40 {
			return ip[6], ip[40:]
		}
	}
	return 0, nil
}

// now is what has crossed by now. The watch runs behind the wire a little, so that it waits until a frame sent now is seen.
func (w *wire) now() crossed {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.seen
	out.spis = map[uint32]int{}
	for k, v := range w.seen.spis {
		out.spis[k] = v
	}
	return out
}

// neverClear fails the test if VXLAN was on the wire in clear.
func (w *wire) neverClear(t *testing.T) {
	t.Helper()
	if n := w.now().clear; n > 0 {
		t.Errorf("%d VXLAN packets on the wire in clear", n)
	}
}

// grows waits until more ESP has crossed than before.
func (w *wire) grows(t *testing.T, before crossed) {
	t.Helper()
	eventually(t, func() error {
		if now := w.now(); now.esp <= before.esp {
			return fmt.Errorf("no ESP on the wire: %+v", now)
		}
		return nil
	})
}
