package node

import (
	"errors"
	"os"

	"weave/peer/wire"
	"weave/stack"
)

const (
	// burst bounds the packets read from a TAP before what they became is sent:
	// bundling never waits for more, and never delays the first for long.
	burst        = 64
	packetBuffer = wire.Headroom + wire.MaxPacket
)

// uplink carries frames from one TAP queue to peers: read, decide, seal, send,
// all on one goroutine.
type uplink struct {
	dp    *dataplane
	queue tapQueue
	out   *output
	buf   []byte
	copy  []byte // of a packet that goes to several peers and would be cut in place
}

func newUplink(dp *dataplane, q tapQueue, queue uint8) *uplink {
	return &uplink{
		dp: dp, queue: q, out: newOutput(dp, bulkArena, queue),
		buf: make([]byte, packetBuffer), copy: make([]byte, packetBuffer),
	}
}

// run forwards until the queue is closed, which it reports as nil.
func (u *uplink) run() error {
	for {
		n, err := u.queue.Read(u.buf[wire.Headroom:])
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		for range burst {
			u.forward(n)
			if n, err = u.queue.TryRead(u.buf[wire.Headroom:]); n == 0 || err != nil {
				break
			}
		}
		u.out.flush()
	}
}

// forward sends the packet of n bytes in buf where the switch says.
func (u *uplink) forward(n int) {
	if n < wire.VnetLen {
		u.dp.counters.add(dropBadFrame, 1)
		return
	}
	buf := u.buf[:wire.Headroom+n]
	frame := buf[wire.Headroom+wire.VnetLen:]
	v := u.dp.sw.Decide(u.dp.stamp(), frame, tapPort)
	t := u.dp.table.Load()
	switch v.Action {
	case stack.Drop:
	case stack.Unicast:
		if to := t.remote(v.Out); to != nil {
			u.send(to, buf)
		}
	default:
		u.replicate(t, v.Ports, buf)
	}
}

// replicate sends one packet to every remote port of a set.
func (u *uplink) replicate(t *table, ports *stack.PortSet, buf []byte) {
	for _, p := range ports.Remote() {
		to := t.remote(p)
		if to == nil {
			continue
		}
		copied := u.copy[:copy(u.copy, buf)]
		u.send(to, copied)
	}
}

// send passes one packet to one peer; buf may be overwritten.
func (u *uplink) send(to *remote, buf []byte) {
	packet := buf[wire.Headroom:]
	to.sent.add(len(packet) - wire.VnetLen)
	if !wire.IsSuper(packet) && u.out.frame(to, packet) {
		return
	}
	u.out.cut(to, buf)
}
