package session

// Row seals messages that follow each other, as the pieces of one packet do. What Seal does for each message is done
// once for all of them: looking whether the keypair may be used, taking numbers, and holding the key. It belongs to one
// goroutine. The zero value is no row.
//
//	      Keypair.Row              Seal, n times at most                End
//	(none) ───────────► (the key is held) ──────────────► (the same) ─────────► (none)
type Row struct {
	pair             *Keypair
	first, next, end uint64 // numbers
	now              stamp
	data             bool // a message had a plaintext
}

// Row begins a row of at most n messages, n ≥ 1. End must follow soon, as a keypair that is zeroed meanwhile is wiped
// only then. Numbers that are not used are left out, which receivers take for loss.
//
// Errors: ErrExpired, ErrExhausted (also if fewer than n may be sealed yet: those are given up), ErrUnconfirmed.
func (k *Keypair) Row(n int) (Row, error) {
	now := k.keys.clock.stamp()
	if !k.sealing.enter() {
		k.leaveSealing()
		return Row{}, ErrExpired
	}
	first, err := k.reserve(uint64(n), now)
	if err != nil {
		k.leaveSealing()
		return Row{}, err
	}
	return Row{pair: k, first: first, next: first, end: first + uint64(n), now: now}, nil
}

// Begun tells a row from none.
func (r *Row) Begun() bool { return r.pair != nil }

// Seal is Keypair.Seal for the next message. It panics after n messages: there is no number for another.
func (r *Row) Seal(dst, plaintext []byte) []byte {
	if r.next == r.end {
		panic("session: row is over")
	}
	r.next++
	r.data = r.data || len(plaintext) > 0
	return r.pair.seal(dst, plaintext, r.next-1)
}

// End lets go of the key.
func (r *Row) End() {
	if r.next > r.first {
		r.pair.keys.sent(r.now, r.data)
	}
	r.pair.leaveSealing()
	*r = Row{}
}
