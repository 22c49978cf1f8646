package node

import (
	"bytes"
	"testing"
	"time"

	"weave/peer/wire"
	"weave/tun/tuntest"
)

// Two containers of one host, each a port of the switch: frames go from one to the other without a peer, super-frames as
// they are; a port that comes later is served, one that goes is not, and a pipe that closes by itself is reported.
func TestLocalPorts(t *testing.T) {
	first, tapFirst := tuntest.Pipe(64)
	s := newSide(t, tapFirst)
	s.run(t)
	second, tapSecond := tuntest.Pipe(64)
	s.dp.addLocal(&localPort{port: 7, queues: []tapQueue{tapSecond}})

	small := append(make([]byte, wire.VnetLen), frame(0xff, 1, []byte("hello"))...)
	passes(t, first, second, small)
	answer := append(make([]byte, wire.VnetLen), frame(1, 2, []byte("answer"))...)
	passes(t, second, first, answer)
	passes(t, first, second, superFrame(60000, 1))

	if err := tapSecond.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.WriteV([][]byte{small}); err != nil { // a pipe's end does not wake who polls it
		t.Fatal(err)
	}
	select {
	case p := <-s.dp.gone:
		if p != 7 {
			t.Errorf("port %d went", p)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a port that closed was not noticed")
	}
	s.dp.removeLocal(7)
	third, tapThird := tuntest.Pipe(64)
	s.dp.addLocal(&localPort{port: 7, queues: []tapQueue{tapThird}})
	passes(t, first, third, small)
}

// passes sends a packet into one end and takes it out of the other.
func passes(t *testing.T, from, to *tuntest.End, packet []byte) {
	t.Helper()
	if err := from.WriteV([][]byte{packet}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, to); !bytes.Equal(got, packet) {
		t.Fatalf("%d bytes became %d others", len(packet), len(got))
	}
}
