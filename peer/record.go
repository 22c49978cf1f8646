package peer

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

// Capability is a bit of a record's capability set. Unknown bits are kept and
// ignored.
type Capability uint64

// Capabilities a peer can announce.
const (
	// CapAES says that the peer has AES instructions and speaks the AES-256-GCM
	// suite of the data sessions.
	CapAES Capability = 1 << iota
	// CapFast says that the peer can use the kernel path, see FastPaths.
	CapFast
	// CapESP4 and CapESP6 say that the peer's kernel can encrypt it, over either family.
	CapESP4
	CapESP6
)

// Limits of a record. A record beyond them is refused as a whole.
const (
	maxRecordBytes = 64 << 10
	maxAddresses   = 64
	maxAddressLen  = 262 // a host name of 253 bytes, brackets, colon and port
	maxNickname    = 253
	maxLinks       = 1024
)

// recordPrefix stands before the record's bytes in what is signed, so that a
// signature made for another purpose can never pass for a record's.
const recordPrefix = "weave record v1\x00"

// Errors of OpenRecord; all mean that the record must not be used.
var (
	ErrBadRecord    = errors.New("malformed record")
	ErrBadSignature = errors.New("record's signature does not match its key")
)

// Record is what a peer tells the network about itself.
type Record struct {
	Name         Name
	Nickname     string
	Key          PublicKey
	UID          uint64 // random per start of the daemon
	Version      uint64 // higher replaces lower
	Addresses    []string
	Links        Links // sorted by peer
	Capabilities Capability
	Port         uint16     // TCP and UDP
	Secrets      []SecretID // of the passwords it accepts, sorted
	MTU          uint16     // the largest packet that may be sent to its containers, bytes; 0 = not told
	TunnelKey    TunnelKey
}

// TunnelKey is the public key of a peer's WireGuard device, by which its kernel encrypts the kernel path; zero: it has none.
// It is another key than the peer's own, which never leaves the daemon.
type TunnelKey [32]byte

// IsZero tells that there is none.
func (k TunnelKey) IsZero() bool { return k == TunnelKey{} }

// Signed is a record together with the exact bytes its peer signed. It is
// immutable: nothing in Record may be changed. The strings of a record that came
// from the network are parts of those bytes: whoever keeps one longer than the
// record keeps all of them, unless it clones it.
type Signed struct {
	Record Record

	bytes     []byte
	signature []byte
	x25519    [32]byte // of Record.Key; set once verified
	verified  bool
	view      *PeerView // of Record; set once verified
}

// seal notes what follows from the record of a peer whose signature is good.
func (s *Signed) seal(x25519 [32]byte) {
	s.x25519, s.verified = x25519, true
	s.view = peerView(s)
}

// hash identifies the record in sums over many. A signature is as good as
// random.
func (s *Signed) hash() uint64 { return binary.LittleEndian.Uint64(s.signature) }

// SignRecord returns the record signed by its peer. The record's key must be
// the identity's.
func (id Identity) SignRecord(r Record) Signed {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.wire())
	if err != nil {
		panic(fmt.Sprintf("peer: own record cannot be marshalled: %v", err))
	}
	s := Signed{Record: r, bytes: raw, signature: id.Sign(appendSigned(nil, raw))}
	s.seal(id.x25519)
	return s
}

// OpenRecord parses, validates and verifies a record that came from the
// network. The error wraps ErrBadRecord, ErrBadKey or ErrBadSignature.
func OpenRecord(w *wire.SignedRecord) (Signed, error) {
	s, err := parseSigned(w)
	if err != nil {
		return Signed{}, err
	}
	if _, err := s.verify(nil); err != nil {
		return Signed{}, err
	}
	return s, nil
}

// Wire returns the message that carries the record, in the bytes that were
// signed. The caller must not change it.
func (s Signed) Wire() *wire.SignedRecord {
	return &wire.SignedRecord{Record: s.bytes, Signature: s.signature}
}

// Compare orders two records of one name by age: version, then UID, then
// bytes. It returns 0 only for identical records.
func (s Signed) Compare(o Signed) int { return s.compare(&o) }

func (s *Signed) compare(o *Signed) int {
	return cmp.Or(
		cmp.Compare(s.Record.Version, o.Record.Version),
		cmp.Compare(s.Record.UID, o.Record.UID),
		bytes.Compare(s.bytes, o.bytes),
		bytes.Compare(s.signature, o.signature),
	)
}

// parseSigned parses and validates without looking at the signature, which is
// the costly part and often not needed for a record already held.
func parseSigned(w *wire.SignedRecord) (Signed, error) {
	raw := w.GetRecord()
	if len(raw) == 0 || len(raw) > maxRecordBytes || len(w.GetSignature()) != ed25519.SignatureSize {
		return Signed{}, fmt.Errorf("%w: wrong size", ErrBadRecord)
	}
	r, err := parseRecord(raw)
	if err != nil {
		return Signed{}, err
	}
	return Signed{Record: r, bytes: raw, signature: w.GetSignature()}, nil
}

// verify checks the signature, once. It puts what is signed together in scratch, and
// returns that for the next time.
func (s *Signed) verify(scratch []byte) ([]byte, error) {
	if s.verified {
		return scratch, nil
	}
	x, err := s.Record.Key.X25519()
	if err != nil {
		return scratch, err
	}
	scratch = appendSigned(scratch[:0], s.bytes)
	if !ed25519.Verify(s.Record.Key[:], scratch, s.signature) {
		return scratch, ErrBadSignature
	}
	s.seal(x)
	return scratch, nil
}

// appendSigned appends what the signature of a record is over.
func appendSigned(out, raw []byte) []byte {
	return append(append(slices.Grow(out, Ample(len(recordPrefix)+len(raw))), recordPrefix...), raw...)
}

func (r *Record) wire() *wire.Record {
	m := &wire.Record{
		Name:         r.Name[:],
		Nickname:     r.Nickname,
		Key:          r.Key[:],
		Uid:          r.UID,
		Version:      r.Version,
		Addresses:    r.Addresses,
		Capabilities: uint64(r.Capabilities),
		Port:         uint32(r.Port),
		Mtu:          uint32(r.MTU),
	}
	if !r.TunnelKey.IsZero() {
		m.TunnelKey = r.TunnelKey[:]
	}
	for _, id := range r.Secrets {
		m.Secrets = append(m.Secrets, uint64(id))
	}
	for l := range r.Links.All() {
		m.Links = append(m.Links, &wire.Link{
			Peer:        l.Peer[:],
			Outbound:    l.Outbound,
			Established: l.Established,
			RttMicros:   uint32(l.RTT.Microseconds()),
			Address:     l.Address,
			Observed:    l.Observed,
			Stream:      l.Stream,
			Trusted:     l.Trusted,
		})
	}
	return m
}

// badAddress refuses what could not be an address and would harm a terminal.
func badAddress(a string) bool {
	return len(a) > maxAddressLen || strings.ContainsFunc(a, unicode.IsControl)
}
