package peer

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"time"

	"weave/peer/wire"
)

// know takes in what the driver knows. What follows from it is for the next tick.
func (f *FastPaths) know(in FastPeer) {
	p := f.peers[in.Name]
	if p == nil {
		p = &fastPeer{}
		f.peers[in.Name] = p
	}
	if p.Life != in.Life || !p.gone.IsZero() {
		p.missed, p.fails, p.retry, p.failed = -fastGrace, 0, time.Time{}, ""
	}
	p.FastPeer, p.gone = in, time.Time{}
	if p.state == wire.FastOff {
		return
	}
	for _, a := range in.Froms { // an address that has only just been found to work
		if !slices.Contains(p.froms, a) && !f.taken(p, a) && !p.shielded {
			p.froms = append(slices.Clip(p.froms), a)
			f.eff.Changed = true
		}
	}
}

// taken tells whether an address is another peer's.
func (f *FastPaths) taken(p *fastPeer, a netip.Addr) bool {
	for _, o := range f.peers {
		if o != p && o.state != wire.FastOff && (o.at == a || slices.Contains(o.froms, a)) {
			return true
		}
	}
	return false
}

func (f *FastPaths) tick(now time.Time, sealed bool) {
	passed := min(now.Sub(f.ticked), time.Second)
	if f.ticked.IsZero() || passed < 0 {
		passed = 0
	}
	f.ticked = now
	open := false
	for _, n := range f.names() {
		p := f.peers[n]
		if away := !p.gone.IsZero() || p.Pending; away && sealed && !p.Trusted && !p.shielded {
			f.leave(now, p, "encrypted")
		}
		f.judge(now, p, passed)
		open = open || p.state != wire.FastOff
	}
	if now.Before(f.beatAt) {
		return
	}
	f.beatAt = now.Add(fastBeat)
	f.nonces = slices.DeleteFunc(f.nonces, func(s fastSent) bool { return now.Sub(s.at) > fastFresh })
	if !open {
		return
	}
	var nonce wire.FastNonce
	if _, err := io.ReadFull(f.rand, nonce[:]); err != nil {
		panic(fmt.Sprintf("peer: no randomness for beats: %v", err))
	}
	f.nonces = append(f.nonces, fastSent{nonce, now})
	f.eff.Beat = &nonce
	for _, n := range f.names() {
		if p := f.peers[n]; p.state != wire.FastOff {
			f.report(now, p)
		}
	}
}

// names are the peers in an order that is always the same.
func (f *FastPaths) names() []Name {
	return slices.SortedFunc(maps.Keys(f.peers), func(a, b Name) int { return bytes.Compare(a[:], b[:]) })
}

// judge moves a peer on as time passes.
func (f *FastPaths) judge(now time.Time, p *fastPeer, passed time.Duration) {
	switch {
	case !p.gone.IsZero() && (p.state != wire.FastOn || now.Sub(p.gone) > fastAway):
		f.leave(now, p, "it is not part of the network any more")
		delete(f.peers, p.Name)
		return
	case !p.gone.IsZero() || p.Pending:
		p.alive = false
		if p.state == wire.FastProbing {
			f.leave(now, p, "")
		}
		return
	case p.Why != "":
		if p.state != wire.FastOff {
			p.retry = now.Add(fastRetry)
		}
		f.leave(now, p, p.Why)
		return
	}
	switch p.state {
	case wire.FastOff:
		if !now.Before(p.retry) {
			f.open(now, p)
		}
	case wire.FastProbing:
		if p.Shield != p.shielded {
			f.leave(now, p, "")
		} else if now.Sub(p.since) > fastTrial {
			f.fail(now, p, p.unreached(now))
		}
	case wire.FastOn:
		f.watch(now, p, passed)
	}
}

// unreached says what is known of a path that was not proven.
func (p *fastPeer) unreached(now time.Time) string {
	switch here, there := now.Sub(p.heard) < fastTrial, now.Sub(p.acked) < fastTrial; {
	case here && !there:
		return fmt.Sprintf("full-size VXLAN packets do not reach %s", p.at)
	case there && !here:
		return fmt.Sprintf("full-size VXLAN packets of %s do not arrive", p.at)
	}
	return fmt.Sprintf("no full-size VXLAN packets pass between here and %s", p.at)
}

// watch leaves a path that is not proven any more. Time counts only while the peer's daemon lives.
func (f *FastPaths) watch(now time.Time, p *fastPeer, passed time.Duration) {
	switch alive := p.Linked || now.Sub(p.Heard) < fastSilence; {
	case p.Shield != p.shielded:
		f.fail(now, p, "it has to be protected otherwise")
		return
	case p.at != p.At && !slices.Contains(p.Froms, p.at):
		f.fail(now, p, "its address has changed")
		return
	case alive && !p.alive:
		p.alive, p.missed = true, min(p.missed, -fastGrace)
	case alive:
		p.missed += passed
	default:
		p.alive = false
	}
	if p.missed > fastLost {
		f.fail(now, p, "VXLAN packets stopped passing")
	}
}

func (f *FastPaths) open(now time.Time, p *fastPeer) {
	if f.taken(p, p.At) || slices.ContainsFunc(p.Froms, func(a netip.Addr) bool { return f.taken(p, a) }) {
		p.failed = fmt.Sprintf("another peer is at %s", p.At)
		p.retry = now.Add(fastRetryMax)
		return
	}
	p.at, p.froms = p.At, slices.Clone(p.Froms)
	p.state, p.since, p.proofs, p.nonce = wire.FastProbing, now, 0, wire.FastNonce{}
	if p.shielded = p.Shield; p.shielded {
		f.eff.Raise = append(f.eff.Raise, FastShield{p.Name, p.at, p.froms})
	}
	f.eff.Changed = true
	f.beatAt = now
}

// fail leaves with a back-off.
func (f *FastPaths) fail(now time.Time, p *fastPeer, why string) {
	if p.state == wire.FastOn && now.Sub(p.since) > fastStable {
		p.fails = 0
	}
	p.failed = why
	p.retry = now.Add(min(fastRetry<<min(p.fails, 8), fastRetryMax))
	p.fails++
	f.leave(now, p, why)
}

// leave is nothing where nothing is to be left.
func (f *FastPaths) leave(now time.Time, p *fastPeer, why string) {
	if p.state == wire.FastOff {
		return
	}
	if p.state == wire.FastOn {
		f.eff.Moves = append(f.eff.Moves, FastMove{Name: p.Name, At: p.at, Froms: p.froms, Why: why})
	}
	p.state, p.since, p.proofs = wire.FastOff, now, 0
	if p.shielded {
		f.eff.Lower = append(f.eff.Lower, FastShield{p.Name, p.at, p.froms})
		p.shielded = false
	}
	f.eff.Changed = true
	f.report(now, p) // the other end should not have to find out
}

func (f *FastPaths) enter(now time.Time, p *fastPeer) {
	p.state, p.since, p.missed, p.alive, p.failed = wire.FastOn, now, 0, true, ""
	f.eff.Moves = append(f.eff.Moves, FastMove{Name: p.Name, On: true, At: p.at, Froms: p.froms})
	f.eff.Changed = true
	f.report(now, p)
}

// reported takes in a report. With a nonce of ours that is fresh it is no older than that, so that it proves the
// direction there, and is to be believed about the other.
func (f *FastPaths) reported(now time.Time, p *fastPeer, r wire.FastReport) {
	i := slices.IndexFunc(f.nonces, func(s fastSent) bool { return s.nonce == r.Nonce && now.Sub(s.at) <= fastFresh })
	proven := i >= 0 && r.Proven
	if i >= 0 && f.nonces[i].at.After(p.acked) {
		p.acked = f.nonces[i].at
	}
	switch {
	case p.state == wire.FastOff && p.Why == "" && p.gone.IsZero() && !p.Pending && r.State == wire.FastProbing && now.Sub(p.since) > fastRetry/2:
		f.open(now, p) // it tries, so that both must
	case p.state == wire.FastOff && r.State != wire.FastOff:
		f.report(now, p)
	case p.state == wire.FastOn && r.State == wire.FastOff:
		f.fail(now, p, "the other end has left the path")
	case p.state == wire.FastOn && proven:
		p.missed = min(p.missed, now.Sub(p.acked))
	case p.state == wire.FastProbing && proven:
		if p.proofs++; p.proofs >= fastProofs {
			f.enter(now, p)
		}
	}
}

func (f *FastPaths) report(now time.Time, p *fastPeer) {
	r := wire.FastReport{State: p.state, Proven: !p.acked.IsZero() && now.Sub(p.acked) < fastProven}
	if p.state != wire.FastOff && now.Sub(p.heard) < fastFresh {
		r.Nonce = p.nonce
	}
	f.eff.Reports = append(f.eff.Reports, FastSend{To: p.Name, Report: r})
}
