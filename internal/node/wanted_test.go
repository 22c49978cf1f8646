package node

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"weave/peer"
)

// Every reachable peer is wanted; in a sparse network those without a connection only when there is something for them.
func TestWantedSessions(t *testing.T) {
	m := peer.NewMesh(peer.Config{
		Identity: peer.IdentityFromSeed([32]byte{1}), Name: peer.Name{2, 5: 1}, UID: 1, Port: 6783, Rand: rand.NewPCG(1, 1),
	})
	v := *m.Step(time.Now(), peer.Tick{}).Publish
	name := func(n byte) peer.Name { return peer.Name{2, 0, 0, 0, 0, n} }
	known := func(n byte, addresses ...string) *peer.PeerView {
		return &peer.PeerView{Name: name(n), X25519: [32]byte{n}, Addresses: addresses, Capabilities: peer.CapAES}
	}
	self := known(1)
	v.Self = *self
	v.Peers = []*peer.PeerView{self, known(2, "10.0.0.2:6783"), known(3, "10.0.0.3:6783"), known(4)}
	v.Neighbours = []peer.Neighbour{{
		PeerView: &peer.PeerView{Name: name(2), X25519: [32]byte{2}}, Conn: 7, Candidates: []netip.AddrPort{netip.MustParseAddrPort("10.9.9.9:6783")},
	}}
	for _, sparse := range []bool{false, true} {
		v.Sparse = sparse
		w := wantedSessions(&v, nil)
		var got []byte
		for _, n := range w.peers {
			got = append(got, n.key[0])
			linked := n.key[0] == 2
			if n.aes == linked || n.distant != (sparse && !linked) || (n.conn == 7) != linked {
				t.Errorf("sparse %v: %+v", sparse, n)
			}
			if linked && n.candidates[0].Addr().String() != "10.9.9.9" {
				t.Errorf("a neighbour's candidates became %v", n.candidates)
			}
			if want := !sparse && n.key[0] == 3; !linked && (len(n.candidates) == 1) != want {
				t.Errorf("sparse %v: candidates of %d are %v", sparse, n.key[0], n.candidates)
			}
		}
		if !slices.Equal(got, []byte{2, 3, 4}) || w.sparse != sparse {
			t.Errorf("sparse %v: sessions with %v", sparse, got)
		}
	}
}

// Whatever changes about a peer is news to the session loop.
func TestSameWish(t *testing.T) {
	full := func() neighbour {
		return neighbour{secrets: []peer.SecretID{1}, candidates: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:6783")}}
	}
	one, two := wishFor(full()), wishFor(full())
	if !one.same(&two) {
		t.Error("what is the same is not")
	}
	if other := (wish{sparse: true, peers: one.peers}); one.same(&other) || one.same(&wish{}) {
		t.Error("what is not the same is")
	}
	fields := reflect.TypeFor[neighbour]()
	for i := range fields.NumField() {
		n, before := full(), full()
		field := reflect.NewAt(fields.Field(i).Type, unsafe.Add(unsafe.Pointer(&n), fields.Field(i).Offset)).Elem()
		switch field.Kind() {
		case reflect.Array:
			field.Index(0).SetUint(1)
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Int:
			field.SetInt(1)
		case reflect.Uint64:
			field.SetUint(1)
		default:
			field.SetZero()
		}
		if before.same(&n) {
			t.Errorf("another %s is no news", fields.Field(i).Name)
		}
	}
}

// What a view says of a peer as the one before did takes no memory of its own.
func TestWishesShareWhatIsTheSame(t *testing.T) {
	one := func(n byte) neighbour { return neighbour{uid: 1, key: [32]byte{n}} }
	changed := one(2)
	changed.uid++
	before := wishFor(one(1), one(2), one(3))
	var w wish
	for _, n := range []neighbour{one(1), changed, one(3), one(4)} {
		w.add(&n, &before)
	}
	if w.peers[0] != before.peers[0] || w.peers[2] != before.peers[2] {
		t.Error("what is the same is there twice")
	}
	if !w.peers[1].same(&changed) || w.peers[1] == &changed || before.peers[1].uid != 1 || w.peers[3].key != one(4).key || len(w.peers) != 4 {
		t.Errorf("changed to %+v, before %+v", w.peers[1], before.peers[1])
	}
}
