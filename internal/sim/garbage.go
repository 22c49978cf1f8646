package sim

import (
	"math/rand/v2"

	"google.golang.org/protobuf/proto"

	"weave/peer"
	"weave/peer/wire"
)

// Garble returns the message with some bytes changed, if the result is still a
// message; else an empty one.
func Garble(rng *rand.Rand, c *wire.Control) *wire.Control {
	raw, err := proto.Marshal(c)
	if err != nil || len(raw) == 0 {
		return &wire.Control{}
	}
	for range 1 + rng.IntN(8) {
		raw[rng.IntN(len(raw))] ^= byte(1 + rng.IntN(255))
	}
	var out wire.Control
	if proto.Unmarshal(raw, &out) != nil {
		return &wire.Control{}
	}
	if out.GetGoodbye() != nil {
		return &wire.Control{} // a goodbye is no garbage
	}
	return &out
}

// Garbage makes a message no honest peer sends: forged records, invented
// digests, wrong sizes, kinds in the wrong place.
func Garbage(rng *rand.Rand, nodes []*Node) *wire.Control {
	victim := nodes[rng.IntN(len(nodes))]
	name := victim.Name
	liar := nodes[rng.IntN(len(nodes))].identity
	switch rng.IntN(6) {
	case 0: // another's name over a key of one's own
		s := liar.SignRecord(peer.Record{Name: name, Key: liar.PublicKey(), UID: rng.Uint64(), Version: rng.Uint64()})
		if liar.PublicKey() == victim.identity.PublicKey() {
			return &wire.Control{}
		}
		return &wire.Control{Kind: &wire.Control_Records{Records: &wire.Records{Records: []*wire.SignedRecord{s.Wire()}}}}
	case 1: // another's name and key, signature of somebody else
		s := liar.SignRecord(peer.Record{Name: name, Key: victim.identity.PublicKey(), Version: rng.Uint64() >> 1})
		w := s.Wire()
		return &wire.Control{Kind: &wire.Control_Records{Records: &wire.Records{Records: []*wire.SignedRecord{
			{Record: w.Record, Signature: make([]byte, len(w.Signature))},
		}}}}
	case 2: // news that does not exist
		var d wire.Digest
		for range rng.IntN(50) {
			d.Entries = append(d.Entries, &wire.Digest_Entry{Name: randomBytes(rng, 4+rng.IntN(4)), Uid: rng.Uint64(), Version: rng.Uint64()})
		}
		return &wire.Control{Kind: &wire.Control_Digest{Digest: &d}}
	case 3:
		return &wire.Control{Kind: &wire.Control_Want{Want: &wire.Want{Names: [][]byte{randomBytes(rng, rng.IntN(9)), name[:]}}}}
	case 4:
		return &wire.Control{Kind: &wire.Control_Hello{Hello: &wire.Hello{MinVersion: rng.Uint32(), MaxVersion: rng.Uint32()}}}
	default:
		return &wire.Control{Kind: &wire.Control_Records{Records: &wire.Records{Records: []*wire.SignedRecord{
			{Record: randomBytes(rng, rng.IntN(100)), Signature: randomBytes(rng, 64)},
		}}}}
	}
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// Shout sends a message on all connections of the node, past its Mesh.
func (n *Node) Shout(c *wire.Control) {
	tamper := n.Tamper
	n.Tamper = nil
	for _, l := range n.sortedLinks() {
		n.send(peer.Send{Conn: l.idOf(n), Message: c})
	}
	n.Tamper = tamper
}
