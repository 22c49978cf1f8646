package wire

import "encoding/binary"

// RelayLen and FloodLen are the bytes of a RELAY before its message and of a FLOOD before its records; NameLen those of
// a peer's name.
const (
	NameLen  = 6
	RelayLen = 2 + 2*NameLen
	FloodLen = 2 + NameLen + 4
)

// Relay is the head of a RELAY: a message of one peer's session with another on its way through a third, which seals it
// for the next but cannot open it.
type Relay struct {
	Hops     uint8 // how many more peers may pass it on
	Dst, Src [NameLen]byte
}

// Put writes the head into the first RelayLen bytes of b.
func (r *Relay) Put(b []byte) {
	_ = b[RelayLen-1]
	b[0], b[1] = byte(KindRelay), r.Hops
	copy(b[2:], r.Dst[:])
	copy(b[2+NameLen:], r.Src[:])
}

// ParseRelay reads a plaintext whose kind is KindRelay. The message is part of it.
func ParseRelay(plaintext []byte) (r Relay, message []byte, ok bool) {
	if len(plaintext) < RelayLen || Kind(plaintext[0]) != KindRelay {
		return r, nil, false
	}
	r.Hops = plaintext[1]
	copy(r.Dst[:], plaintext[2:])
	copy(r.Src[:], plaintext[2+NameLen:])
	return r, plaintext[RelayLen:], true
}

// Flood is the head of a FLOOD: frames for everybody, which each peer takes once and passes on to its other neighbours.
type Flood struct {
	Hops   uint8 // how many more peers may pass it on
	Source [NameLen]byte
	Seq    uint32 // counts the source's floods, so that they are taken once
}

// Put writes the head into the first FloodLen bytes of b.
func (f *Flood) Put(b []byte) {
	_ = b[FloodLen-1]
	b[0], b[1] = byte(KindFlood), f.Hops
	copy(b[2:], f.Source[:])
	binary.BigEndian.PutUint32(b[2+NameLen:], f.Seq)
}

// ParseFlood reads a plaintext whose kind is KindFlood. The records are a plaintext of their own, with FRAMEs only.
func ParseFlood(plaintext []byte) (f Flood, records []byte, ok bool) {
	if len(plaintext) <= FloodLen || Kind(plaintext[0]) != KindFlood || Kind(plaintext[FloodLen]) != KindFrame {
		return f, nil, false
	}
	f.Hops = plaintext[1]
	copy(f.Source[:], plaintext[2:])
	f.Seq = binary.BigEndian.Uint32(plaintext[2+NameLen:])
	return f, plaintext[FloodLen:], true
}
