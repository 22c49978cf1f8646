package node

import (
	"slices"

	"weave/peer"
	"weave/peer/wire"
	"weave/runtime/netlink"
	"weave/stack"
)

const (
	// burstBytes bounds what is read from a TAP before what it became is sent:
	// bundling never waits for more, and never delays the first for long.
	burstBytes   = 128 << 10
	packetBuffer = wire.Headroom + wire.MaxPacket
)

// uplink carries frames from queues of local ports to peers and to other local
// ports: read, decide, seal, send, all in one lane.
type uplink struct {
	dp    *dataplane
	out   *output
	buf   []byte
	copy  []byte    // of a packet that goes to several peers and would be cut in place
	plain []byte    // of a flood
	one   [1][]byte // a packet for a local port

	streamed uint64 // bytes of super-frames that were sent
}

func newUplink(dp *dataplane, socks socketPair, number uint8) *uplink {
	return &uplink{
		dp: dp, out: newOutput(dp, socks, bulkArena, number),
		buf: make([]byte, packetBuffer), copy: make([]byte, packetBuffer), plain: make([]byte, floodLimit),
	}
}

// turn forwards what a queue has now, up to a burst, and returns how many bytes
// that was.
func (u *uplink) turn(in *inlet) (int, error) {
	total := 0
	for total < burstBytes {
		n, err := in.queue.TryRead(u.buf[wire.Headroom:])
		if err != nil && total == 0 {
			return 0, err // final: after a batch, the next turn meets it again
		}
		if n == 0 || err != nil {
			break
		}
		u.forward(n, in.port)
		total += n
	}
	if total > 0 {
		u.out.flush()
	}
	return total, nil
}

// forward sends the packet of n bytes in buf, which came from a port, where the
// switch says, if the port may send that and the policy lets it.
func (u *uplink) forward(n int, from *localPort) {
	if n < wire.VnetLen {
		u.dp.counters.add(dropBadFrame, 1)
		return
	}
	buf := u.buf[:wire.Headroom+n]
	frame := buf[wire.Headroom+wire.VnetLen:]
	if g := from.guard.Load(); g != nil && !g.Check(frame) {
		u.dp.counters.add(dropSpoofed, 1)
		return
	}
	if !u.dp.permits(frame, len(frame)) {
		return
	}
	v := u.dp.sw.Decide(u.dp.stamp(), frame, from.port)
	t := u.dp.table.Load()
	switch v.Action {
	case stack.Drop:
	case stack.Unicast:
		if to := t.remote(v.Out); to != nil && u.oversized(to, frame, from) {
			return
		}
		if to := t.remote(v.Out); to != nil && exit(to.exit.Load()) != exitSession {
			u.put(exit(to.exit.Load()), buf[wire.Headroom:])
			offer(u.dp.strays, stray{port: to.port, mac: stack.Frame(frame).Dst()})
		} else if to != nil {
			u.send(to, buf)
		} else if to := u.dp.locals.Load().of(v.Out); to != nil {
			u.hand(to, buf)
		}
	default:
		u.replicate(t, v.Ports, buf)
	}
}

// hand gives one packet to another port on this host, as it is.
func (u *uplink) hand(to *localPort, buf []byte) {
	u.one[0] = buf[wire.Headroom:]
	u.dp.write(to, u.one[0][wire.VnetLen:], u.one[:])
}

// replicate sends one packet to every port of a set.
func (u *uplink) replicate(t *table, ports *stack.PortSet, buf []byte) {
	if local := ports.Local(); len(local) > 0 {
		all := u.dp.locals.Load()
		for _, p := range local {
			if to := all.of(p); to != nil {
				u.hand(to, buf)
			}
		}
	}
	if t.sparse && t.everybody(ports) && u.flood(t, buf[wire.Headroom:]) {
		return
	}
	var tunnelled [exitKinds]bool // one copy is for all that the kernel floods to
	for _, p := range ports.Remote() {
		to := t.remote(p)
		if to == nil {
			continue
		}
		if by := exit(to.exit.Load()); by != exitSession {
			if !tunnelled[by] {
				u.put(by, buf[wire.Headroom:])
			}
			tunnelled[by] = true
			continue
		}
		copied := u.copy[:copy(u.copy, buf)]
		u.send(to, copied)
	}
}

// oversized deals with a packet that is larger than its receiver's interface takes, where it would vanish without a word: its
// sender is told, or the packet is cut, if it may be.
func (u *uplink) oversized(to *remote, frame []byte, from *localPort) bool {
	mtu := int(to.takes.Load())
	if mtu == 0 || len(frame) <= mtu+stack.HeaderLen {
		return false
	}
	packet := u.buf[wire.Headroom : wire.Headroom+wire.VnetLen+len(frame)]
	if stack.PacketLen(frame, wire.SegmentLen(packet)) <= mtu {
		return false
	}
	if reply, ok := stack.TooBig(frame, mtu); ok {
		u.dp.write(from, reply, [][]byte{make([]byte, wire.VnetLen), reply})
		u.dp.counters.add(dropTooBig, 1)
		return true
	}
	if wire.IsSuper(packet) || !wire.Complete(packet) {
		return false
	}
	pieces := stack.Cut(frame, mtu)
	for _, piece := range pieces {
		buf := u.copy[:wire.Headroom+wire.VnetLen+len(piece)]
		clear(buf[wire.Headroom : wire.Headroom+wire.VnetLen])
		copy(buf[wire.Headroom+wire.VnetLen:], piece)
		u.send(to, buf)
	}
	return len(pieces) > 0
}

// put gives one packet to the kernel's VXLAN, which finds out itself behind whom its destination is, or floods.
func (u *uplink) put(by exit, packet []byte) {
	if err := u.dp.tunnel.Put(netlink.Tunnel(by-exitTunnel), packet); err != nil {
		u.dp.counters.add(dropTunnel, 1)
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
	if wire.IsSuper(packet) {
		u.streamed += uint64(len(packet))
	} else {
		clamp(to, packet)
		if u.out.frame(to, packet) {
			return
		}
	}
	u.out.cut(to, buf)
}

// clamp has the far end of a TCP connection send what its path takes whole, from the first packet on: else each segment would be
// cut in two. Both ends' daemons do so, each for its own way there.
func clamp(to *remote, packet []byte) {
	p, frame := to.path.Load(), stack.Frame(packet[wire.VnetLen:])
	if p == nil || p.way.Kind == peer.WayStream || !stack.OpensTCP(frame) || !wire.Complete(packet) {
		return
	}
	stack.ClampMSS(frame, p.limit-wire.FrameOverhead)
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
