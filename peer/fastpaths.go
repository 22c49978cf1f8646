package peer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"weave/peer/wire"
)

// Times of FastPaths.
const (
	fastBeat     = 500 * time.Millisecond // between beats, and between reports
	fastFresh    = 2 * time.Second        // for how long after a beat its nonce proves something
	fastProofs   = 2                      // proofs before a path is used
	fastTrial    = 5 * time.Second        // a path is tried for at a time
	fastLost     = 2250 * time.Millisecond
	fastProven   = 1250 * time.Millisecond // for how long after a beat that arrived we say that ours do
	fastGrace    = 3 * time.Second         // more than fastLost, for a peer that has just come back
	fastSilence  = time.Second             // a session that was heard from later is alive
	fastAway     = 10 * time.Minute
	fastRetry    = 2 * time.Second // doubled with each failure, up to fastRetryMax
	fastRetryMax = time.Minute
	fastStable   = time.Minute // a path that lasted this long starts anew with fastRetry
)

// FastPaths decides which peers are on the kernel path: VXLAN, in clear, made and received by the kernel. A peer is on it
// or not, at each end for what that end sends; a driver that moves it from one set to the other in the order of the
// effects never sends a frame for everybody twice.
//
//	        may be used       beats arrive both ways            nothing proven for fastLost, or may not be used,
//	off ───────────────► probing ─────────────────────► on      or the other end has left
//	 ▲  after a back-off   │  fastTrial over             │
//	 └─────────────────────┴────────────────────────────┘
//
// A beat is a frame of full size with a new random number, sent by VXLAN to all that are probing or on. Who gets it tells
// its sender that number over the session, authenticated: only that proves that it arrived. The report also says whether
// the reporter's own beats are known to arrive, so that both ends know of both directions.
//
// A daemon that dies leaves its kernel forwarding. So a peer that is on and not heard of at all, neither by the session
// nor by a control connection, stays on: no other path to it would be better. What is on is saved, and taken up again
// by the daemon that comes after.
//
// FastPaths is pure; it belongs to one goroutine.
type FastPaths struct {
	self   Name
	rand   io.Reader
	peers  map[Name]*fastPeer
	nonces []fastSent // of the last beats, oldest first
	ticked time.Time
	beatAt time.Time
	eff    FastEffects
	saved  []byte
}

type fastSent struct {
	nonce wire.FastNonce
	at    time.Time
}

// fastPeer is one peer. While it is probing or on, at and froms stay as they were when that began.
type fastPeer struct {
	FastPeer
	at    netip.Addr
	froms []netip.Addr

	shielded bool // as long as it is probing or on
	state    wire.FastState
	since    time.Time // when the state began
	fastProof
	fails  int
	retry  time.Time // not probed before
	failed string    // why it was left or not reached last; ""
	gone   time.Time // the driver no longer knows it; zero while it does
}

// fastProof is what is known of beats to and from a peer.
type fastProof struct {
	acked  time.Time      // when the latest beat of ours that is known to arrive was sent
	proofs int            // in this state
	missed time.Duration  // time without a proof, while the peer's daemon lives
	alive  bool           // it does
	nonce  wire.FastNonce // of its latest beat
	heard  time.Time      // when that came
}

// FastInput is what happens to FastPaths.
type FastInput interface{ fastInput() }

type (
	// FastAdopt is the first input: what was saved, and whom the kernel floods to.
	FastAdopt struct {
		Saved    []byte
		Flooded  []netip.Addr
		Barred   []netip.Addr // of these, those to which clear text must not go any more
		Shielded []netip.Addr // of these, those for which a shield is up
		Sealed   bool         // as in FastTick
	}
	// FastTick lets time pass; give it every 250 ms.
	FastTick struct {
		Sealed bool // clear text may go to trusted peers only
	}
	// FastPeer tells what is known of a peer. Give it before each FastTick.
	FastPeer struct {
		Name    Name
		Life    uint64       // another value: its daemon was restarted
		At      netip.Addr   // its underlay address for this path; invalid: none
		Froms   []netip.Addr // those that its datagrams may come from
		Why     string       // it may not be used; "" it may
		Pending bool         // neither is known yet
		Trusted bool         // clear text may go to it although there is a password
		Shield  bool         // it may be used behind a shield only, see FastShield
		Linked  bool         // there is a control connection
		Heard   time.Time    // the last message of its session
	}
	// FastGone tells that the driver no longer knows a peer.
	FastGone struct{ Name Name }
	// FastHeard is a beat that came. Name is what it says, and proves nothing.
	FastHeard struct{ Beat wire.FastBeat }
	// FastReported is an authentic report of a peer.
	FastReported struct {
		Name   Name
		Report wire.FastReport
	}
)

func (FastAdopt) fastInput()    {}
func (FastTick) fastInput()     {}
func (FastPeer) fastInput()     {}
func (FastGone) fastInput()     {}
func (FastHeard) fastInput()    {}
func (FastReported) fastInput() {}

// FastEffects are what the driver does after a step, in the order of the fields.
type FastEffects struct {
	Save    []byte // what a FastAdopt will be given; nil: as before
	Raise   []FastShield
	Changed bool // Allow and Beats are new
	Allow   []netip.Addr
	Beats   []netip.Addr // to all of these go beats
	Moves   []FastMove
	Lower   []FastShield
	Beat    *wire.FastNonce // to be sent now; nil: none
	Reports []FastSend
}

// FastShield is what protects the kernel path to a peer, where clear text must not go: it is up before anything is sent
// there or let in, and down when nothing is any more.
type FastShield struct {
	Name  Name
	At    netip.Addr
	Froms []netip.Addr
}

// FastMove puts a peer on the kernel path, or takes it off.
type FastMove struct {
	Name  Name // zero: nobody's, what an earlier daemon left
	On    bool
	At    netip.Addr   // what is flooded to
	Froms []netip.Addr // behind which MACs may have been learnt
	Why   string       // it was taken off
}

// FastSend is a report to be sent by the session.
type FastSend struct {
	To     Name
	Report wire.FastReport
}

// NewFastPaths makes one that knows nobody. random is read for nonces; it must not fail.
func NewFastPaths(self Name, random io.Reader) *FastPaths {
	return &FastPaths{self: self, rand: random, peers: map[Name]*fastPeer{}}
}

// Step takes an input and says what to do.
func (f *FastPaths) Step(now time.Time, in FastInput) FastEffects {
	f.eff = FastEffects{}
	switch in := in.(type) {
	case FastAdopt:
		f.adopt(now, in)
	case FastTick:
		f.tick(now, in.Sealed)
	case FastPeer:
		f.know(in)
	case FastGone:
		if p := f.peers[in.Name]; p != nil && p.gone.IsZero() {
			p.gone = now
		}
	case FastHeard:
		if p := f.peers[in.Beat.Name]; p != nil && p.state != wire.FastOff {
			p.nonce, p.heard = in.Beat.Nonce, now
		}
	case FastReported:
		if p := f.peers[in.Name]; p != nil {
			f.reported(now, p, in.Report)
		}
	}
	if f.eff.Changed {
		f.list()
	}
	return f.eff
}

// Deadline is when FastPaths wants a FastTick at the latest; zero: at no time.
func (f *FastPaths) Deadline() time.Time {
	if len(f.peers) == 0 {
		return time.Time{}
	}
	return f.beatAt
}

// State tells how far a peer is, and why it is not on.
func (f *FastPaths) State(n Name) (state wire.FastState, why string) {
	p := f.peers[n]
	switch {
	case p == nil:
		return wire.FastOff, ""
	case p.state == wire.FastOn:
		return p.state, ""
	case p.Why != "":
		return p.state, p.Why
	case p.failed != "":
		return p.state, p.failed
	}
	return p.state, "it is being tried"
}

// At is the address that a peer that is probing or on has on this path; invalid for others.
func (f *FastPaths) At(n Name) netip.Addr {
	if p := f.peers[n]; p != nil && p.state != wire.FastOff {
		return p.at
	}
	return netip.Addr{}
}

// list makes the lists that go with the states.
func (f *FastPaths) list() {
	var saved []fastSaved
	for _, n := range f.names() {
		p := f.peers[n]
		if p.state == wire.FastOff {
			continue
		}
		f.eff.Allow = append(f.eff.Allow, p.froms...)
		if !slices.Contains(p.froms, p.at) {
			f.eff.Allow = append(f.eff.Allow, p.at)
		}
		f.eff.Beats = append(f.eff.Beats, p.at)
		if p.state == wire.FastOn {
			saved = append(saved, fastSaved{Name: p.Name, At: p.at, Froms: p.froms})
		}
	}
	text, err := json.Marshal(saved)
	if err != nil {
		panic(fmt.Sprintf("peer: save kernel paths: %v", err)) // names and addresses always can be
	}
	if !bytes.Equal(text, f.saved) {
		f.saved, f.eff.Save = text, text
	}
}

// fastSaved is a peer that was on.
type fastSaved struct {
	Name  Name
	At    netip.Addr
	Froms []netip.Addr
}

// adopt takes up what an earlier daemon left: who was on and is flooded to is on. What cannot be read is as nothing.
func (f *FastPaths) adopt(now time.Time, in FastAdopt) {
	var saved []fastSaved
	_ = json.Unmarshal(in.Saved, &saved)
	left := slices.Clone(in.Flooded)
	for _, s := range saved {
		i := slices.Index(left, s.At)
		if i < 0 || f.peers[s.Name] != nil || slices.Contains(in.Barred, s.At) {
			continue
		}
		left = slices.Delete(left, i, i+1)
		f.peers[s.Name] = &fastPeer{
			FastPeer: FastPeer{Name: s.Name, Trusted: in.Sealed}, at: s.At, froms: s.Froms, state: wire.FastOn, since: now, gone: now,
			shielded: slices.Contains(in.Shielded, s.At),
		}
	}
	for _, a := range left {
		f.eff.Moves = append(f.eff.Moves, FastMove{At: a, Froms: []netip.Addr{a}})
	}
	f.eff.Changed = true
}

// Check tells the first broken invariant.
func (f *FastPaths) Check() error {
	held := map[netip.Addr]Name{}
	for n, p := range f.peers {
		switch {
		case n != p.Name:
			return fmt.Errorf("fast paths: %s is kept as %s", p.Name, n)
		case p.state == wire.FastOff:
			continue
		case !p.at.IsValid():
			return fmt.Errorf("fast paths: %s is in state %d at no address", n, p.state)
		case p.missed > fastLost && p.state == wire.FastOn:
			return fmt.Errorf("fast paths: %s is on, and missed for %v", n, p.missed)
		}
		if other, taken := held[p.at]; taken {
			return fmt.Errorf("fast paths: %s and %s are both at %s", n, other, p.at)
		}
		held[p.at] = n
	}
	return nil
}
