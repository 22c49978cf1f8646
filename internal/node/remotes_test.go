package node

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"weave/stack"
)

// Each port finds the peer that has it, and all others, local ones among them, find none.
func TestRemotesByPort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		port := rapid.OneOf(
			rapid.Uint16Range(uint16(firstRemotePort), uint16(firstRemotePort)+200), rapid.Uint16Range(uint16(firstRemotePort), 65535),
		)
		ports := map[stack.Port]*peerState{}
		for _, p := range rapid.SliceOfN(port, 0, 50).Draw(t, "ports") {
			ports[stack.Port(p)] = &peerState{remote: &remote{port: stack.Port(p)}}
		}
		r := newRemotes(ports)
		for p := range 1 << 16 {
			var want *remote
			if s := ports[stack.Port(p)]; s != nil {
				want = s.remote
			}
			if got := r.of(stack.Port(p)); got != want {
				t.Fatalf("port %d: %v, want %v", p, got, want)
			}
		}
		all := slices.Collect(r.all())
		if len(all) != len(ports) || !slices.IsSortedFunc(all, func(a, b *remote) int { return int(a.port) - int(b.port) }) {
			t.Fatalf("%d peers of %d, or in disorder", len(all), len(ports))
		}
		for range r.all() {
			break
		}
	})
}
