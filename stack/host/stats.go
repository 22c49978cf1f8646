package host

import "sync/atomic"

// Stats are counts since the Host was made. "Received" is what the switch gave us, "sent" what we gave to it.
type Stats struct {
	ReceivedPackets, ReceivedBytes uint64
	SentPackets, SentBytes         uint64

	DroppedMalformed uint64 // frames that make no sense, or a super-frame of a kind that nobody asked for
	DroppedOthers    uint64 // frames for other MACs or addresses, ARP about others, protocols we do not speak
	DroppedQueueFull uint64 // the switch did not read fast enough
	DroppedTooBig    uint64 // the switch's buffer was too small

	Conns           uint64 // TCP connections that Forwards, Proxies and Egress carried
	ConnsRefused    uint64 // because of a limit or a rule
	ConnsFailed     uint64 // the other end could not be reached
	Sessions        uint64 // UDP and ping sessions
	SessionsRefused uint64 // because of a limit or a rule
	SessionsEvicted uint64 // displaced by newer ones
}

type counters struct {
	receivedPackets, receivedBytes, sentPackets, sentBytes           atomic.Uint64
	droppedMalformed, droppedOthers, droppedQueueFull, droppedTooBig atomic.Uint64
	conns, connsRefused, connsFailed                                 atomic.Uint64
	sessions, sessionsRefused, sessionsEvicted                       atomic.Uint64
}

// Stats returns the counts.
func (h *Host) Stats() Stats {
	c := &h.count
	return Stats{
		ReceivedPackets: c.receivedPackets.Load(), ReceivedBytes: c.receivedBytes.Load(),
		SentPackets: c.sentPackets.Load(), SentBytes: c.sentBytes.Load(),
		DroppedMalformed: c.droppedMalformed.Load(), DroppedOthers: c.droppedOthers.Load(),
		DroppedQueueFull: c.droppedQueueFull.Load(), DroppedTooBig: c.droppedTooBig.Load(),
		Conns: c.conns.Load(), ConnsRefused: c.connsRefused.Load(), ConnsFailed: c.connsFailed.Load(),
		Sessions: c.sessions.Load(), SessionsRefused: c.sessionsRefused.Load(), SessionsEvicted: c.sessionsEvicted.Load(),
	}
}
