package node

import (
	"net/netip"
	"slices"
	"testing"

	"weave/peer"
)

// Data sessions are wanted with neighbours, and in a sparse network with everybody whose address is known.
func TestWantedSessions(t *testing.T) {
	name := func(n byte) peer.Name { return peer.Name{2, 0, 0, 0, 0, n} }
	known := func(n byte, addresses ...string) *peer.PeerView {
		return &peer.PeerView{Name: name(n), X25519: [32]byte{n}, Addresses: addresses, Capabilities: peer.CapAES}
	}
	self := known(1)
	v := &peer.View{
		Self:  *self,
		Peers: []*peer.PeerView{self, known(2, "10.0.0.2:6783"), known(3, "10.0.0.3:6783"), known(4)},
		Neighbours: []peer.Neighbour{{
			Name: name(2), X25519: [32]byte{2}, Candidates: []netip.AddrPort{netip.MustParseAddrPort("10.9.9.9:6783")},
		}},
	}
	for _, c := range []struct {
		sparse bool
		want   []byte
	}{{false, []byte{2}}, {true, []byte{2, 3}}} {
		v.Sparse = c.sparse
		var got []byte
		for _, n := range wantedSessions(v) {
			got = append(got, n.key[0])
			if n.aes != (n.key[0] == 3) {
				t.Errorf("peer %d: aes %v", n.key[0], n.aes)
			}
			if n.key[0] == 2 && n.candidates[0].Addr().String() != "10.9.9.9" {
				t.Errorf("a neighbour's candidates became %v", n.candidates)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("sparse %v: sessions with %v, want %v", c.sparse, got, c.want)
		}
	}
}
