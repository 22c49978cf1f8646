package sim

import (
	"testing"
	"time"

	"weave/peer"
)

// chainOf starts n nodes of which each knows the next only.
func chainOf(t *testing.T, n int) *Network {
	t.Helper()
	w := New(Config{Seed: 7, Isolated: true})
	for range n {
		w.Add()
	}
	for i, node := range w.Nodes {
		if i == 0 {
			node.Start()
			continue
		}
		node.Start(Address(i - 1).String())
	}
	settle(t, w)
	return w
}

func settle(t *testing.T, w *Network) {
	t.Helper()
	if _, err := w.RunUntil(time.Minute, func() error { return Settled(w.Running()) }); err != nil {
		t.Fatal(err)
	}
}

func TestLettersReachEverybodyOnce(t *testing.T) {
	grown := New(Config{Seed: 3, Fast: true})
	for i := range 60 {
		grown.Add().Start(Address(0).String())
		if err := grown.Run(50 * time.Millisecond); err != nil {
			t.Fatal(i, err)
		}
	}
	settle(t, grown)
	for name, w := range map[string]*Network{"chain": chainOf(t, 6), "sparse": grown} {
		from := w.Nodes[2]
		for i := range byte(5) {
			from.Step(peer.Tell{Channel: peer.ChannelDNS, Data: []byte{i}})
		}
		if err := w.Run(2 * time.Second); err != nil {
			t.Fatal(err)
		}
		for i, n := range w.Nodes {
			want := 5
			if n == from {
				want = 0
			}
			if len(n.Heard) != want {
				t.Errorf("%s: node %d heard %d letters, want %d", name, i, len(n.Heard), want)
			}
		}
	}
}

func TestLetterPassesRelays(t *testing.T) {
	w := chainOf(t, 5)
	first, last := w.Nodes[0], w.Nodes[4]
	first.Step(peer.Tell{Channel: peer.ChannelIPAM, To: last.Name, Data: []byte("hello")})
	first.Step(peer.Tell{Channel: peer.ChannelIPAM, To: peer.Name{2, 9}, Data: []byte("nobody")})
	if err := w.Run(time.Second); err != nil {
		t.Fatal(err)
	}
	for i, n := range w.Nodes[:4] {
		if len(n.Heard) != 0 {
			t.Errorf("node %d heard a letter for another", i)
		}
	}
	if len(last.Heard) != 1 || last.Heard[0].From != first.Name || string(last.Heard[0].Data) != "hello" || last.Heard[0].Channel != peer.ChannelIPAM {
		t.Errorf("the last heard %+v", last.Heard)
	}
	if first.Mesh.Counters().LettersLost != 1 {
		t.Error("a letter to nobody is not counted")
	}
}
