package node

import (
	"context"

	"weave/peer/control"
)

// streamBatch bounds the messages taken together.
const streamBatch = 64

// streamLane takes the messages that come inside control connections, where UDP
// does not pass: a downlink without a socket.
type streamLane struct {
	dp   *dataplane
	down *downlink
}

func newStreamLane(dp *dataplane, plain bool) *streamLane {
	out := newOutput(dp, dp.sockets[0], replyArena, numberStreams)
	return &streamLane{dp: dp, down: newDownlink(dp, nil, out, plain)}
}

// run works until ctx ends.
func (s *streamLane) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-s.dp.streams:
			s.down.setTable(s.dp.table.Load())
			s.take(m)
			s.down.finish()
		}
	}
}

// take works on one message, and on those that are there as well.
func (s *streamLane) take(m streamed) {
	for range streamBatch {
		s.down.message(m.from, m.bytes, false)
		select {
		case m = <-s.dp.streams:
		default:
			return
		}
	}
	s.down.message(m.from, m.bytes, false)
}

// streamed takes a message of a data session out of a control connection. It
// never blocks: what comes too fast is dropped, as a datagram would be.
func (n *node) streamed(d control.Data) {
	select {
	case n.dp.streams <- streamed{from: streamOrigin(d.Conn.ID()), bytes: d.Message}:
	default:
		n.dp.counters.add(dropStream, 1)
	}
}

// sendStream sends a message inside a control connection.
func (n *node) sendStream(conn uint64, msg []byte) {
	if !n.transport.SendData(conn, msg) {
		n.dp.counters.add(dropStream, 1)
	}
}
