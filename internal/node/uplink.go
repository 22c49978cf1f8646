package node

import (
	"slices"

	"weave/peer/wire"
	"weave/stack"
)

const (
	// burstBytes bounds what is read from a TAP before what it became is sent:
	// bundling never waits for more, and never delays the first for long.
	burstBytes   = 128 << 10
	packetBuffer = wire.Headroom + wire.MaxPacket
)

// uplink carries frames from one TAP queue to peers: read, decide, seal, send,
// all in one lane.
type uplink struct {
	dp    *dataplane
	queue tapQueue
	out   *output
	buf   []byte
	copy  []byte // of a packet that goes to several peers and would be cut in place
	plain []byte // of a flood
}

func newUplink(dp *dataplane, q tapQueue, socks socketPair, number uint8) *uplink {
	return &uplink{
		dp: dp, queue: q, out: newOutput(dp, socks, bulkArena, number),
		buf: make([]byte, packetBuffer), copy: make([]byte, packetBuffer), plain: make([]byte, floodLimit),
	}
}

// turn forwards what the queue has now, up to a burst, and returns how many
// bytes that was.
func (u *uplink) turn() (int, error) {
	total := 0
	for total < burstBytes {
		n, err := u.queue.TryRead(u.buf[wire.Headroom:])
		if err != nil && total == 0 {
			return 0, err // final: after a batch, the next turn meets it again
		}
		if n == 0 || err != nil {
			break
		}
		u.forward(n)
		total += n
	}
	if total > 0 {
		u.out.flush()
	}
	return total, nil
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
	if t.sparse && t.everybody(ports) && u.flood(t, buf[wire.Headroom:]) {
		return
	}
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
	if to.keys.Sending() == nil {
		u.stage(to, packet)
		return
	}
	if !wire.IsSuper(packet) && u.out.frame(to, packet) {
		return
	}
	u.out.cut(to, buf)
}

// stage gives a frame for a peer without a session to the session loop, which
// sends it when there is one. That copies, which is fine: it is once per peer.
func (u *uplink) stage(to *remote, packet []byte) {
	select {
	case u.dp.stagings <- staged{port: to.port, packet: slices.Clone(packet)}:
	default:
		u.dp.counters.add(dropNoSession, 1)
	}
}
