package policy

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"weave/peer"
)

// marshal never fails for messages of ours: their texts are checked.
func marshal(m *WireMessage) []byte {
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("policy: own message cannot be marshalled: %v", err))
	}
	return out
}

func (d *Document) wire() *WireDocument {
	return &WireDocument{Version: d.Version, Author: d.Author[:], Text: d.Text, Time: d.Time.Unix()}
}

func (c *Core) receive(in Message) {
	var m WireMessage
	o := c.origins[in.From]
	if in.From == c.cfg.Name || proto.Unmarshal(in.Data, &m) != nil {
		c.counters.Bad++
		return
	}
	if m.Document != nil {
		c.hear(m.Document)
	}
	if o == nil || !o.lostSince.IsZero() {
		c.counters.Stale++
		return
	}
	if m.Delta != nil {
		c.learn(in.From, o, m.Delta)
	}
	if m.Ask != nil {
		c.answer(in.From, m.Ask)
	}
	if m.Digest != nil {
		c.digest(in.From, m.Digest)
	}
}

// hear takes a document.
func (c *Core) hear(w *WireDocument) {
	author, ok := nameOf(w.GetAuthor())
	if !ok || w.GetVersion() == 0 || len(w.GetText()) > MaxText {
		c.counters.Bad++
		return
	}
	d := Document{Version: w.GetVersion(), Author: author, Text: w.GetText(), Time: time.Unix(w.GetTime(), 0)}
	if d.newer(&c.doc) {
		c.doc = d
		c.adopt()
	}
}

func nameOf(b []byte) (peer.Name, bool) {
	if len(b) != peer.NameLen || peer.Name(b).IsZero() {
		return peer.Name{}, false
	}
	return peer.Name(b), true
}

// learn takes what an origin tells of itself. A gap makes it be asked.
func (c *Core) learn(from peer.Name, o *origin, w *WireDelta) {
	if w.GetRun() != o.run {
		c.counters.Stale++
		return
	}
	o.head = max(o.head, w.GetHead(), w.GetVersion())
	list := make([]Endpoint, 0, len(w.GetEndpoints()))
	for _, we := range w.GetEndpoints() {
		e, ok := we.endpoint()
		if !ok || w.GetVersion() < w.GetSince() {
			c.counters.Bad++
			return
		}
		list = append(list, e)
	}
	whole := w.GetWhole() && w.GetSince() == 0 && (!o.met || w.GetHead() > o.known)
	if !whole && (!o.met && o.fresh == nil || w.GetSince() > o.known || w.GetVersion() <= o.known) {
		c.wake(o)
		return
	}
	if whole {
		o.met, o.fresh = false, map[string]bool{}
	}
	for _, e := range list {
		c.put(from, o, e)
	}
	if o.known = w.GetVersion(); o.fresh != nil && o.known >= w.GetHead() {
		c.complete(from, o)
	}
	c.wake(o)
}

// complete forgets what an origin that has told all of itself did not tell of any more.
func (c *Core) complete(from peer.Name, o *origin) {
	for _, id := range slices.Sorted(maps.Keys(o.entries)) {
		if !o.fresh[id] {
			c.put(from, o, Endpoint{ID: id})
		}
	}
	o.met, o.fresh = true, nil
}

func (c *Core) put(from peer.Name, o *origin, e Endpoint) {
	had, known := o.entries[e.ID]
	if o.fresh != nil && len(e.Addrs) > 0 {
		o.fresh[e.ID] = true
	}
	switch {
	case len(e.Addrs) == 0 && !known, known && same(had, e):
		return
	case len(e.Addrs) == 0:
		delete(o.entries, e.ID)
	case !known && len(o.entries) >= MaxEndpoints:
		c.counters.Bad++
		return
	default:
		o.entries[e.ID] = e
	}
	c.fx.Changes = append(c.fx.Changes, Change{from, e})
}

// endpoint reads what another peer told.
func (w *WireEndpoint) endpoint() (Endpoint, bool) {
	e := Endpoint{ID: w.GetId(), Names: w.GetNames(), Labels: w.GetLabels()}
	size := len(e.ID)
	for _, n := range e.Names {
		size += len(n)
	}
	for k, v := range e.Labels {
		size += len(k) + len(v)
	}
	if e.ID == "" || len(e.Names) > MaxNames || len(e.Labels) > MaxLabels || size > 2*MaxBytes || len(w.GetAddresses()) > MaxAddrs {
		return e, false
	}
	for _, b := range w.GetAddresses() {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return e, false
		}
		e.Addrs = append(e.Addrs, a.Unmap())
	}
	return e, w.GetDead() == (len(e.Addrs) == 0)
}

func (e *entry) wire() *WireEndpoint {
	w := &WireEndpoint{Id: e.ID, Names: e.Names, Labels: e.Labels, Dead: len(e.Addrs) == 0}
	for _, a := range e.Addrs {
		w.Addresses = append(w.Addresses, a.AsSlice())
	}
	return w
}

// tell tells everybody what has changed, unless that is more than a letter: then they will ask.
func (c *Core) tell() {
	if c.own.told == c.own.version {
		return
	}
	since := c.own.told
	c.own.told = c.own.version
	if len(c.others) == 0 {
		return
	}
	d := c.chunk(since)
	d.Delta.Whole = false
	c.send(peer.Name{}, d)
}

// chunk is what changed after a version, as much as goes into one letter. From the beginning on, what has gone is left out.
func (c *Core) chunk(since uint64) *WireMessage {
	var list []*entry
	for _, e := range c.own.entries {
		if e.version > since && (since > 0 || len(e.Addrs) > 0) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *entry) int { return int(int64(a.version - b.version)) })
	d := &WireDelta{Run: c.cfg.Run, Since: since, Version: c.own.version, Head: c.own.version, Whole: since == 0}
	size := 0
	for i, e := range list {
		w := e.wire()
		if size += proto.Size(w); size > chunkBytes && i > 0 {
			d.Version = list[i-1].version
			break
		}
		d.Endpoints = append(d.Endpoints, w)
	}
	return &WireMessage{Delta: d}
}

// answer tells a peer what it lacks of ours.
func (c *Core) answer(to peer.Name, ask *WireAsk) {
	if ask.GetRun() != c.cfg.Run {
		c.counters.Stale++
		return
	}
	since := ask.GetSince()
	if since < c.own.floor || since > c.own.version {
		since = 0
	}
	theirs := Document{Version: ask.GetDocument()}
	theirs.Author, _ = nameOf(ask.GetAuthor())
	theirs.Text = c.doc.Text // only a set by one peer twice at once could differ
	news := c.doc.newer(&theirs)
	for {
		m := c.chunk(since)
		if news {
			m.Document, news = c.doc.wire(), false
		}
		c.send(to, m)
		if since = m.Delta.Version; since >= c.own.version {
			return
		}
	}
}

// wake has an origin asked if something of it is missing, or else no more.
func (c *Core) wake(o *origin) {
	switch {
	case o.met && o.known >= o.head:
		o.next = time.Time{}
	case o.next.IsZero():
		o.next, o.wait = c.now, askAgain
	}
}

// askAll asks those whose turn it is, a few at a time.
func (c *Core) askAll() {
	var due []peer.Name
	for n, o := range c.origins {
		if !o.next.IsZero() && !o.next.After(c.now) {
			due = append(due, n)
		}
	}
	slices.SortFunc(due, peer.Name.Compare)
	for i, n := range due {
		o := c.origins[n]
		if i >= burst {
			o.next = c.now.Add(pace * time.Duration(i/burst))
			continue
		}
		c.counters.Asked++
		c.send(n, &WireMessage{Ask: &WireAsk{Run: o.run, Since: o.known, Document: c.doc.Version, Author: c.doc.Author[:]}})
		o.next = c.now.Add(c.jitter(o.wait))
		o.wait = min(2*o.wait, askSlow)
	}
}

// compare sends somebody the sum of what we hold, from time to time.
func (c *Core) compare() {
	if c.digestAt.IsZero() || c.now.Before(c.digestAt) {
		return
	}
	c.digestAt = c.now.Add(c.jitter(digestEvery))
	if len(c.others) == 0 {
		return
	}
	c.send(c.others[c.rand.IntN(len(c.others))], &WireMessage{Digest: c.summary(false)})
}

// summary is over versions; with the list of them it answers.
func (c *Core) summary(list bool) *WireDigest {
	d := &WireDigest{Document: c.doc.Version}
	note := func(n peer.Name, run, version uint64) {
		if version == 0 {
			return
		}
		d.Sum ^= mix(mix(fold(n[:])^run) ^ version)
		if list {
			d.Held = append(d.Held, &WireHeld{Origin: n[:], Run: run, Version: version})
		}
	}
	note(c.cfg.Name, c.cfg.Run, c.own.version)
	for n, o := range c.origins {
		if o.lostSince.IsZero() {
			note(n, o.run, o.known)
		}
	}
	d.Sum ^= mix(c.doc.Version ^ fold(c.doc.Author[:]) ^ fold([]byte(c.doc.Text)))
	slices.SortFunc(d.Held, func(a, b *WireHeld) int { return bytes.Compare(a.Origin, b.Origin) })
	return d
}

func fold(b []byte) uint64 {
	var h uint64
	for _, x := range b {
		h = h*0x100000001b3 ^ uint64(x) // the prime of FNV-1
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

// digest compares notes. The first of an exchange has only a sum; if it is not ours, documents and lists of both go over.
func (c *Core) digest(from peer.Name, w *WireDigest) {
	if len(w.GetHeld()) == 0 && !w.GetAnswer() {
		if w.GetSum() != c.summary(false).Sum {
			c.send(from, &WireMessage{Document: c.documentOrNone(), Digest: c.summary(true)})
		}
		return
	}
	for _, h := range w.GetHeld() {
		n, ok := nameOf(h.GetOrigin())
		if !ok {
			c.counters.Bad++
			return
		}
		if o := c.origins[n]; o != nil && o.run == h.GetRun() && h.GetVersion() > o.known {
			o.head = max(o.head, h.GetVersion())
			c.wake(o)
		}
	}
	if !w.GetAnswer() {
		d := c.summary(true)
		d.Answer = true
		c.send(from, &WireMessage{Document: c.documentOrNone(), Digest: d})
	}
}

func (c *Core) documentOrNone() *WireDocument {
	if c.doc.Version == 0 {
		return nil
	}
	return c.doc.wire()
}
