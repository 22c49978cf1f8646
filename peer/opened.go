package peer

import (
	"bytes"
	"crypto/ed25519"

	"weave/peer/wire"
)

// Opened remembers records that were parsed and verified, so that many Meshes
// of one process (a simulation) hold one copy of each and check each signature
// once. It belongs to one goroutine. A nil *Opened remembers nothing.
type Opened struct {
	young, old map[[ed25519.SignatureSize]byte]*Signed
	limit      int
}

// NewOpened makes a memory of limit to 2·limit records.
func NewOpened(limit int) *Opened {
	return &Opened{limit: limit, young: make(map[[ed25519.SignatureSize]byte]*Signed)}
}

// parse is parseSigned, from memory when the very same bytes were seen. The
// record may be verified already.
func (o *Opened) parse(w *wire.SignedRecord) (*Signed, error) {
	if o == nil || len(w.GetSignature()) != ed25519.SignatureSize {
		s, err := parseSigned(w)
		return &s, err
	}
	key := [ed25519.SignatureSize]byte(w.GetSignature())
	s := o.young[key]
	if s == nil {
		s = o.old[key]
	}
	if s != nil && bytes.Equal(s.bytes, w.GetRecord()) {
		o.keep(key, s)
		return s, nil
	}
	parsed, err := parseSigned(w)
	if err != nil {
		return &parsed, err
	}
	o.keep(key, &parsed)
	return &parsed, nil
}

func (o *Opened) keep(key [ed25519.SignatureSize]byte, s *Signed) {
	if o.young[key] == s {
		return
	}
	if len(o.young) >= o.limit {
		o.old, o.young = o.young, make(map[[ed25519.SignatureSize]byte]*Signed, o.limit)
	}
	o.young[key] = s
}
