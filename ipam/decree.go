package ipam

import (
	"cmp"
	"slices"
	"time"

	"weave/peer"
)

// ballot numbers an attempt to decide; the zero ballot is none.
type ballot struct {
	round uint32
	by    peer.Name
}

func (b ballot) compare(o ballot) int {
	return cmp.Or(cmp.Compare(b.round, o.round), b.by.Compare(o.by))
}

// maxRound bounds rounds, so that there is one above each.
const maxRound = 1 << 30

// vote is what one peer said: it takes part in no ballot below promise, and
// value is what it accepted in ballot accepted.
type vote struct {
	promise, accepted ballot
	value             []Member
}

// join takes in another, perhaps older or newer, vote of the same peer; it
// tells whether v changed.
func (v *vote) join(o vote) bool {
	changed := false
	if o.promise.compare(v.promise) > 0 {
		v.promise, changed = o.promise, true
	}
	if o.accepted.compare(v.accepted) > 0 {
		v.accepted, v.value, changed = o.accepted, o.value, true
	}
	return changed
}

// decree is a decision by single-decree Paxos (Lamport, "Paxos Made Simple",
// 2001). Its messages are the votes themselves: each peer sends its own to all
// others when it changes, and everybody reads promises, proposals and
// decisions off the votes it knows. A vote only ever grows, so loss,
// repetition and reordering do no harm.
//
//	             a ballot of ours                 promised by a quorum
//	idle ───────► promise == own ballot ──────────► accepted == own ballot
//	  ▲                │ a higher ballot                  │ accepted by a quorum
//	  └────────────────┴───────────────────               ▼
//	                                                   decided
type decree struct {
	votes    map[peer.Name]vote
	own      ballot    // ours, if we propose
	retry    time.Time // when to try a higher ballot; zero: no try is due
	wants    bool      // we have a reason to see it decided
	required map[peer.Name]bool
	reclaim  bool // by absence, not by a person
	requests []removal
	until    time.Time // give up then
}

func newDecree() *decree { return &decree{votes: map[peer.Name]vote{}} }

// joinVote takes in a vote of n; it tells whether that is news.
func (d *decree) joinVote(n peer.Name, v vote) bool {
	mine := d.votes[n]
	changed := mine.join(v)
	if changed {
		d.votes[n] = mine
	}
	return changed
}

// propose starts a ballot of self above all that are known.
func (d *decree) propose(self peer.Name) {
	round := uint32(0)
	for _, v := range d.votes {
		round = max(round, v.promise.round, v.accepted.round)
	}
	d.own = ballot{min(round, maxRound-1) + 1, self}
	v := d.votes[self]
	v.promise = d.own
	d.votes[self] = v
}

// vote brings the vote of self up to what the others' ask for: it promises the
// highest ballot and accepts the highest value it may. It tells whether the
// vote changed.
func (d *decree) vote(self peer.Name) bool {
	mine := d.votes[self]
	next := mine
	for _, v := range d.votes {
		if v.promise.compare(next.promise) > 0 {
			next.promise = v.promise
		}
	}
	for _, v := range d.votes {
		if v.accepted.compare(next.promise) >= 0 && v.accepted.compare(next.accepted) > 0 {
			next.accepted, next.value, next.promise = v.accepted, v.value, v.accepted
		}
	}
	if next.promise == mine.promise && next.accepted == mine.accepted {
		return false
	}
	d.votes[self] = next
	return true
}

// advance makes our proposal once a quorum has promised our ballot: the value
// of the highest ballot that any of them accepted, else ours. It tells whether
// the vote of self changed.
func (d *decree) advance(self peer.Name, quorum func(func(peer.Name) bool) bool, ours func() []Member) bool {
	mine := d.votes[self]
	if d.own == (ballot{}) || mine.promise != d.own || mine.accepted == d.own {
		return false
	}
	promised := func(n peer.Name) bool { return d.votes[n].promise == d.own }
	if !quorum(promised) {
		return false
	}
	var best vote
	for n, v := range d.votes {
		if promised(n) && v.accepted.compare(best.accepted) > 0 {
			best = v
		}
	}
	mine.value = best.value
	if best.accepted == (ballot{}) {
		mine.value = ours()
	}
	mine.accepted = d.own
	d.votes[self] = mine
	return true
}

// decided returns the value that a quorum has accepted in one ballot.
func (d *decree) decided(quorum func(func(peer.Name) bool) bool) ([]Member, bool) {
	for _, v := range d.votes {
		if v.accepted == (ballot{}) {
			continue
		}
		if quorum(func(n peer.Name) bool { return d.votes[n].accepted == v.accepted }) {
			return v.value, true
		}
	}
	return nil, false
}

// voters are the peers whose votes are known, sorted.
func (d *decree) voters() []peer.Name {
	out := make([]peer.Name, 0, len(d.votes))
	for n := range d.votes {
		out = append(out, n)
	}
	slices.SortFunc(out, peer.Name.Compare)
	return out
}

// wire writes the vote of n in the decree about gone.
func (d *decree) wire(gone Member, n peer.Name) *WireVote {
	v := d.votes[n]
	w := &WireVote{
		Voter: n[:], PromiseRound: v.promise.round, PromiseBy: v.promise.by[:],
		AcceptedRound: v.accepted.round, AcceptedBy: v.accepted.by[:], Reclaim: d.reclaim,
	}
	if !gone.IsZero() {
		w.Gone, w.GoneLife = gone.Name[:], gone.Life
	}
	for _, m := range v.value {
		w.Names = append(w.Names, m.Name[:])
		w.Lives = append(w.Lives, m.Life)
	}
	return w
}

// parse reads a vote: of which decree, of whom.
func (w *WireVote) parse() (gone Member, voter peer.Name, v vote, err error) {
	if len(w.GetGone()) > 0 {
		if gone.Name, err = nameOf(w.GetGone()); err != nil {
			return
		}
		if gone.Life = w.GetGoneLife(); !validMember(gone) {
			return gone, voter, v, errMessage
		}
	}
	if voter, err = nameOf(w.GetVoter()); err != nil {
		return
	}
	if v.promise, err = parseBallot(w.GetPromiseRound(), w.GetPromiseBy()); err != nil {
		return
	}
	if v.accepted, err = parseBallot(w.GetAcceptedRound(), w.GetAcceptedBy()); err != nil {
		return
	}
	if len(w.GetNames()) != len(w.GetLives()) || (v.accepted != ballot{}) != (len(w.GetNames()) > 0) || v.promise.compare(v.accepted) < 0 {
		return gone, voter, v, errMessage
	}
	for i, b := range w.GetNames() {
		n, err := nameOf(b)
		m := Member{n, w.GetLives()[i]}
		if err != nil || !validMember(m) {
			return gone, voter, v, errMessage
		}
		v.value = append(v.value, m)
	}
	return gone, voter, v, nil
}

func parseBallot(round uint32, by []byte) (ballot, error) {
	if round == 0 {
		return ballot{}, nil
	}
	n, err := nameOf(by)
	if err != nil || round > maxRound {
		return ballot{}, errMessage
	}
	return ballot{round, n}, nil
}
