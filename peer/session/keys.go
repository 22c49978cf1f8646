package session

import (
	"sync"
	"sync/atomic"
)

// Keys is what the data plane sees of one peer: its keypairs and when they were last used. The Machine that made it
// keeps it up to date; the data plane only reads (Sending) and, by opening a message, confirms. Reading takes no lock.
//
//	           we finish a handshake as initiator
//	    ┌───────────────────────────────────────────────┐
//	    ▼                                               │
//	current ──(a newer one came)──► previous ──► retired, zeroed
//	    ▲                                               ▲
//	    │ first message opened                          │ a newer one came, or too old
//	  next ─────────────────────────────────────────────┘
//	    ▲
//	    └ we answer a handshake as responder
//
// We seal with current only; a message may be opened with any of the three.
type Keys struct {
	clock   *Clock
	current atomic.Pointer[Keypair]
	prior   atomic.Pointer[Keypair]
	next    atomic.Pointer[Keypair]

	mu      sync.Mutex // for changing the three and for retired
	retired []*Keypair // pushed out, for the Machine to forget and zero: bounded, it looks before it installs another

	_        [64]byte // written when sending
	lastSent atomic.Int64
	awaiting atomic.Int64 // since when data was sent and nothing came back

	_            [64]byte // written when receiving
	lastReceived atomic.Int64
	owed         atomic.Int64 // since when data was received and nothing was sent back
}

// Sending is the keypair to seal with now; nil when there is none that may be used, which is when to put a Want into
// the Machine.
func (s *Keys) Sending() *Keypair {
	if k := s.current.Load(); k != nil && k.usable() {
		return k
	}
	return nil
}

// Current, Previous and Next are for display and tests; any may be nil.
func (s *Keys) Current() *Keypair { return s.current.Load() }

// Previous is the keypair that was current before; messages still under way are opened with it.
func (s *Keys) Previous() *Keypair { return s.prior.Load() }

// Next is a responder's keypair that waits to be confirmed.
func (s *Keys) Next() *Keypair { return s.next.Load() }

// sent notes that an authentic message went out; data says that it was not a keepalive.
func (s *Keys) sent(now stamp, data bool) {
	if s.lastSent.Load() != now {
		s.lastSent.Store(now)
	}
	if s.owed.Load() != 0 {
		s.owed.Store(0)
	}
	if data && s.awaiting.Load() == 0 {
		s.awaiting.Store(now)
	}
}

// received notes that an authentic message came in.
func (s *Keys) received(now stamp, data bool) {
	if s.lastReceived.Load() != now {
		s.lastReceived.Store(now)
	}
	if s.awaiting.Load() != 0 {
		s.awaiting.Store(0)
	}
	if data && s.owed.Load() == 0 {
		s.owed.Store(now)
	}
}

// promote makes a responder's keypair current. Several goroutines may open first messages at once: one wins, the
// others return when it is done, so that each of them may answer with the new keypair.
func (s *Keys) promote(k *Keypair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next.Load() == k {
		s.retire(s.prior.Load())
		s.prior.Store(s.current.Load())
		k.confirmed.Store(true)
		s.current.Store(k)
		s.next.Store(nil)
	}
	k.confirmed.Store(true)
}

// install puts in a new keypair: an initiator's is current at once, a responder's waits as next.
func (s *Keys) install(k *Keypair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.next.Load()
	if !k.id.initiator {
		s.retire(next)
		s.next.Store(k)
		return
	}
	s.retire(s.prior.Load())
	if next == nil {
		s.prior.Store(s.current.Load())
	} else { // both ends began at once: what the peer will send with is the unconfirmed one
		s.retire(s.current.Load())
		s.prior.Store(next)
		s.next.Store(nil)
	}
	s.current.Store(k)
}

// collect takes out the keypairs for which dead holds and returns them with all that were pushed out before.
func (s *Keys) collect(dead func(*Keypair) bool) []*Keypair {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, slot := range [...]*atomic.Pointer[Keypair]{&s.current, &s.prior, &s.next} {
		if k := slot.Load(); k != nil && dead(k) {
			s.retire(k)
			slot.Store(nil)
		}
	}
	out := s.retired
	s.retired = nil
	return out
}

func (s *Keys) retire(k *Keypair) {
	if k != nil {
		s.retired = append(s.retired, k)
	}
}
