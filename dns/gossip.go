package dns

import (
	"bytes"
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	"weave/peer"
)

func (c *Core) receive(in Message) {
	var m WireMessage
	if in.From == c.cfg.Name || proto.Unmarshal(in.Data, &m) != nil {
		c.counters.Bad++
		return
	}
	if m.Delta != nil {
		c.learn(in.From, m.Delta)
	}
	if m.Ask != nil {
		c.answer(in.From, m.Ask)
	}
	if m.Digest != nil {
		c.digest(in.From, m.Digest)
	}
}

// learn takes what a peer tells of its own names.
func (c *Core) learn(from peer.Name, w *WireDelta) {
	d, err := w.delta(from)
	var news bool
	if err == nil {
		news, err = c.cat.Merge(c.now, d)
	}
	switch {
	case errors.Is(err, ErrStale):
		c.counters.Stale++
		return
	case err != nil:
		c.counters.Bad++
		return
	}
	o := c.cat.origins[from]
	c.changed = c.changed || news
	o.ask.head = max(d.Head, d.Version)
	if d.Since == 0 || o.known.first() > 0 {
		o.ask.met = true
	}
	if news && c.behind[from] != nil {
		// More may be on its way: ask again when it does not come.
		o.ask.wait, o.ask.next = askAgain, c.now.Add(answerEvery)
	}
	c.wake(from)
}

// answer tells a peer what it lacks of our names.
func (c *Core) answer(to peer.Name, ask *WireAsk) {
	if c.cat.origins[to] == nil || ask.GetRun() != c.cfg.Run {
		c.counters.Stale++
		return
	}
	since := ask.GetSince()
	if a, ok := c.answered[to]; ok && since <= a.since && c.now.Sub(a.at) < answerEvery {
		return
	}
	c.answered[to] = answered{at: c.now, since: since}
	c.counters.Refill++
	if since < c.own.floor || since > c.own.version {
		since = 0 // what was removed meanwhile may be forgotten: all that is left says it
	}
	for range chunksAtOne {
		d := c.chunk(since)
		c.send(to, d.wire())
		if since = d.Version; since == c.own.version {
			return
		}
	}
}

// compare sends somebody the sum of what we hold, from time to time: messages
// may have got lost.
func (c *Core) compare() {
	if c.digestAt.IsZero() || c.now.Before(c.digestAt) {
		return
	}
	c.digestAt = c.now.Add(c.jitter(digestEvery))
	if len(c.others) == 0 {
		return
	}
	to := c.others[c.rand.IntN(len(c.others))]
	c.send(to, &WireMessage{Digest: &WireDigest{Sum: c.cat.sum()}})
}

// digest compares notes. The first digest of an exchange has only a sum; if it
// is not ours, the lists of both go over.
func (c *Core) digest(from peer.Name, w *WireDigest) {
	if c.cat.origins[from] == nil {
		c.counters.Stale++
		return
	}
	if len(w.GetHeld()) == 0 {
		if !w.GetAnswer() && w.GetSum() != c.cat.sum() {
			c.send(from, &WireMessage{Digest: c.cat.digest(false)})
		}
		return
	}
	less := false
	for _, h := range w.GetHeld() {
		n, err := originOf(h.GetOrigin())
		if err != nil {
			c.counters.Bad++
			return
		}
		o := c.cat.origins[n]
		switch {
		case o == nil || o.run != h.GetRun() || n == c.cfg.Name:
		case h.GetVersion() > o.known.first():
			o.ask.head = max(o.ask.head, h.GetVersion())
			c.wake(n)
		case h.GetVersion() < o.known.first():
			less = true
		}
	}
	if !w.GetAnswer() && (less || len(w.GetHeld()) < len(c.cat.origins)) {
		c.send(from, &WireMessage{Digest: c.cat.digest(true)})
	}
}

// sum is over which versions are held of whom; peers without names do not count.
func (c *Catalogue) sum() uint64 {
	var sum uint64
	for n, o := range c.origins {
		if v := o.known.first(); v > 0 {
			h := fold(n[:])
			h = mix(h ^ o.run)
			sum ^= mix(h ^ v)
		}
	}
	return sum
}

func fold(b []byte) uint64 {
	var h uint64
	for _, x := range b {
		h = h<<8 | uint64(x)
	}
	return mix(h)
}

// mix is the finalizer of MurmurHash3.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// digest lists which versions are held of whom.
func (c *Catalogue) digest(answer bool) *WireDigest {
	d := &WireDigest{Sum: c.sum(), Answer: answer}
	for n, o := range c.origins {
		if v := o.known.first(); v > 0 {
			d.Held = append(d.Held, &WireHeld{Origin: n[:], Run: o.run, Version: v})
		}
	}
	slices.SortFunc(d.Held, func(a, b *WireHeld) int { return bytes.Compare(a.Origin, b.Origin) })
	return d
}
