package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"weave/peer"
)

// world is a few cores and the letters between them.
type world struct {
	t     fataler
	now   time.Time
	cores map[peer.Name]*Core
	runs  map[peer.Name]uint64
	seen  map[peer.Name]map[peer.Name]map[string]Endpoint // what the changes told each peer
	saved map[peer.Name]Document
	owns  map[peer.Name][]Endpoint
	mail  []letter
	drop  func() bool
	parts map[peer.Name]int // peers of different parts do not reach each other
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

type letter struct {
	from, to peer.Name
	data     []byte
}

func peerName(i int) peer.Name { return peer.Name{2, 0, 0, 0, 0, byte(i)} }

func newWorld(t fataler, n int) *world {
	w := &world{
		t: t, now: time.Unix(1000, 0), cores: map[peer.Name]*Core{}, runs: map[peer.Name]uint64{}, seen: map[peer.Name]map[peer.Name]map[string]Endpoint{},
		saved: map[peer.Name]Document{}, owns: map[peer.Name][]Endpoint{}, drop: func() bool { return false }, parts: map[peer.Name]int{},
	}
	for i := 1; i <= n; i++ {
		w.start(peerName(i))
	}
	w.meet()
	return w
}

// start begins a run of a peer: it has what it saved.
func (w *world) start(n peer.Name) {
	w.runs[n]++
	w.cores[n] = New(Config{Name: n, Run: w.runs[n], Rand: rand.NewPCG(uint64(n[5]), w.runs[n])})
	w.seen[n] = map[peer.Name]map[string]Endpoint{}
	w.step(n, Recall{Document: w.saved[n]})
	w.step(n, Own{Endpoints: w.owns[n]})
}

// meet tells everybody who is there.
func (w *world) meet() {
	for n := range w.cores {
		all := map[peer.Name]uint64{}
		for o := range w.cores {
			if w.parts[o] == w.parts[n] {
				all[o] = w.runs[o]
			}
		}
		w.step(n, Reachable{Peers: all})
	}
}

func (w *world) step(n peer.Name, in Input) {
	w.t.Helper()
	c := w.cores[n]
	fx := c.Step(w.now, in)
	if err := c.Check(); err != nil {
		w.t.Fatalf("%v", err)
	}
	if fx.Save != nil {
		w.saved[n] = *fx.Save
	}
	for _, ch := range fx.Changes {
		if w.seen[n][ch.Origin] == nil {
			w.seen[n][ch.Origin] = map[string]Endpoint{}
		}
		if w.seen[n][ch.Origin][ch.ID] = ch.Endpoint; len(ch.Addrs) == 0 {
			delete(w.seen[n][ch.Origin], ch.ID)
		}
	}
	for _, s := range fx.Send {
		for o := range w.cores {
			if o != n && (s.To.IsZero() || s.To == o) && w.parts[o] == w.parts[n] && !w.drop() {
				w.mail = append(w.mail, letter{n, o, s.Data})
			}
		}
	}
}

// deliver passes on what is under way.
func (w *world) deliver() {
	for len(w.mail) > 0 {
		l := w.mail[0]
		w.mail = w.mail[1:]
		w.step(l.to, Message{From: l.from, Data: l.data})
	}
}

// settle lets time pass without losses.
func (w *world) settle(d time.Duration) {
	w.drop = func() bool { return false }
	w.deliver()
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(time.Second)
		for n, c := range w.cores {
			if at := c.Deadline(); !at.IsZero() && !at.After(w.now) {
				w.step(n, Tick{})
			}
		}
		w.deliver()
	}
}

// agree checks that all know the same document, and of everybody what that one has.
func (w *world) agree() {
	w.t.Helper()
	first := w.cores[peerName(1)].Document()
	for n, c := range w.cores {
		if d := c.Document(); d.newer(&first) || first.newer(&d) || d.Version != w.saved[n].Version {
			w.t.Fatalf("%s has document %v (saved %v), another %v", n, d, w.saved[n], first)
		}
		for o := range w.cores {
			want := map[string]bool{}
			for _, e := range w.owns[o] {
				want[e.ID] = true
				if got := w.seen[n][o][e.ID]; !same(got, trimmed(e)) {
					w.t.Fatalf("%s knows %v of %s, which has %v", n, got, o, e)
				}
			}
			if len(w.seen[n][o]) != len(want) {
				w.t.Fatalf("%s knows %v of %s, which has %v", n, w.seen[n][o], o, w.owns[o])
			}
		}
	}
}

func endpoint(id int, names ...string) Endpoint {
	return Endpoint{
		ID: fmt.Sprint(id), Names: names, Labels: map[string]string{"id": fmt.Sprint(id)},
		Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(id >> 8), byte(id)})},
	}
}

// Whatever gets lost, whoever starts again or is cut off: in the end all know the same.
func TestConvergence(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, 4)
		loss := rapid.IntRange(0, 90).Draw(rt, "loss")
		w.drop = func() bool { return rapid.IntRange(1, 100).Draw(rt, "lost") <= loss }
		for i := range rapid.IntRange(1, 25).Draw(rt, "steps") {
			n := peerName(rapid.IntRange(1, 4).Draw(rt, "peer"))
			switch rapid.IntRange(0, 6).Draw(rt, "what") {
			case 0:
				w.step(n, Set{Text: fmt.Sprintf("text %d", i)})
			case 1, 2:
				var list []Endpoint
				for _, id := range rapid.SliceOfNDistinct(rapid.IntRange(1, 6), 0, 6, rapid.ID).Draw(rt, "ids") {
					list = append(list, endpoint(id, rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "name")))
				}
				w.owns[n] = list
				w.step(n, Own{Endpoints: list})
			case 3:
				w.start(n)
				w.meet()
			case 4:
				w.parts[n] = 1 - w.parts[n]
				w.meet()
			case 5:
				w.deliver()
			case 6:
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 200).Draw(rt, "seconds")) * time.Second)
				w.step(n, Tick{})
			}
		}
		clear(w.parts)
		w.meet()
		w.settle(10 * time.Minute)
		w.agree()
	})
}

// Two set at the same moment: all keep the same one, and what it replaces is higher yet.
func TestSetAtOnce(t *testing.T) {
	w := newWorld(t, 3)
	w.step(peerName(1), Set{Text: "one"})
	w.step(peerName(3), Set{Text: "three"})
	w.deliver()
	w.agree()
	if d := w.cores[peerName(2)].Document(); d.Text != "three" || d.Version != 1 {
		t.Errorf("%v is left", d)
	}
	w.step(peerName(2), Set{})
	w.deliver()
	w.agree()
	if d := w.cores[peerName(1)].Document(); d.Text != "" || d.Version != 2 {
		t.Errorf("%v is left", d)
	}
}

// One that comes late learns all at once, and one change among thousands of endpoints is one small letter to each.
func TestWorkIsSmall(t *testing.T) {
	w := newWorld(t, 2)
	var list []Endpoint
	for i := range 3000 {
		list = append(list, endpoint(i, fmt.Sprint("container-", i)))
	}
	one, two, late := peerName(1), peerName(2), peerName(3)
	w.owns[one] = list
	w.step(one, Set{Text: "policy"})
	w.step(one, Own{Endpoints: list})
	w.deliver()
	w.settle(5 * time.Second)
	w.agree()
	w.start(late)
	w.meet()
	w.deliver()
	w.agree()
	list[7] = endpoint(7, "renamed")
	w.step(one, Own{Endpoints: list})
	if len(w.mail) != 2 || len(w.mail[0].data) > 200 {
		t.Errorf("%d letters, the first of %d bytes", len(w.mail), len(w.mail[0].data))
	}
	w.deliver()
	w.agree()
	_ = two
}

// Endpoints of a peer that starts again stay known meanwhile; those of one that is gone are forgotten after a while.
func TestLinger(t *testing.T) {
	w := newWorld(t, 2)
	one, two := peerName(1), peerName(2)
	w.owns[two] = []Endpoint{endpoint(1, "a"), endpoint(2, "b")}
	w.step(two, Own{Endpoints: w.owns[two]})
	w.deliver()
	w.parts[two] = 1
	w.meet()
	w.now = w.now.Add(linger - time.Second)
	w.step(one, Tick{})
	if len(w.seen[one][two]) != 2 {
		t.Fatalf("forgotten at once: %v", w.seen[one])
	}
	w.owns[two] = w.owns[two][:1] // the other went while it was away
	w.start(two)
	clear(w.parts)
	w.meet()
	if len(w.seen[one][two]) != 2 {
		t.Errorf("forgotten before it was told anew: %v", w.seen[one])
	}
	w.deliver()
	w.agree()
	w.parts[two] = 1
	w.meet()
	if at := w.cores[one].Deadline(); at.IsZero() || at.After(w.now.Add(linger)) {
		t.Errorf("deadline %v", at)
	}
	w.now = w.now.Add(linger)
	w.step(one, Tick{})
	if len(w.seen[one][two]) != 0 {
		t.Errorf("still known: %v", w.seen[one])
	}
	c := New(Config{Name: one, Rand: rand.NewPCG(1, 2)})
	fx := c.Step(w.now, Recall{Origins: map[peer.Name][]Endpoint{two: w.owns[two]}})
	if len(fx.Changes) != 1 || len(c.Endpoints(two)) != 1 {
		t.Errorf("recalled %v", fx.Changes)
	}
	if fx = c.Step(w.now.Add(linger), Tick{}); len(fx.Changes) != 1 {
		t.Errorf("never forgotten: %v", fx.Changes)
	}
}

// Thousands that come and go leave few traces, and who missed it all is told what is left.
func TestGraves(t *testing.T) {
	w := newWorld(t, 2)
	one, two := peerName(1), peerName(2)
	w.owns[one] = []Endpoint{endpoint(1, "stays"), endpoint(2, "goes")}
	w.step(one, Own{Endpoints: w.owns[one]})
	w.deliver()
	w.drop = func() bool { return true }
	for i := range 2*maxGraves + 10 {
		w.step(one, Own{Endpoints: []Endpoint{endpoint(1, "stays"), {ID: fmt.Sprint("x", i), Addrs: endpoint(3).Addrs}}})
	}
	w.owns[one] = []Endpoint{endpoint(1, "stays")}
	w.step(one, Own{Endpoints: w.owns[one]})
	if n := len(w.cores[one].own.entries); n > maxGraves+2 {
		t.Errorf("%d entries are kept", n)
	}
	w.settle(5 * time.Minute)
	w.agree()
	_ = two
}

func TestTrimmed(t *testing.T) {
	e := endpoint(1)
	for i := range 200 {
		e.Names = append(e.Names, fmt.Sprint("name", i))
		e.Labels[fmt.Sprint("label", i)] = string(make([]byte, 300)) + "\xff"
	}
	got := trimmed(e)
	if len(got.Names) != MaxNames || len(got.Labels) > MaxLabels || maps.Equal(got.Labels, e.Labels) {
		t.Errorf("%d names, %d labels", len(got.Names), len(got.Labels))
	}
	m := &WireMessage{Delta: &WireDelta{Endpoints: []*WireEndpoint{(&entry{Endpoint: got}).wire()}}}
	if back, ok := m.Delta.Endpoints[0].endpoint(); !ok || !same(back, got) || proto.Size(m) > 2*MaxBytes {
		t.Errorf("%v, %d bytes", ok, proto.Size(m))
	}
}

func FuzzMessage(f *testing.F) {
	c := New(Config{Name: peerName(1), Run: 1, Rand: rand.NewPCG(1, 2)})
	c.Step(time.Unix(1, 0), Own{Endpoints: []Endpoint{endpoint(1, "a")}})
	f.Add(marshal(c.chunk(0)))
	f.Add(marshal(&WireMessage{Digest: c.summary(true), Document: (&Document{Version: 1, Author: peerName(2), Text: "x"}).wire()}))
	f.Add(marshal(&WireMessage{Ask: &WireAsk{Run: 1}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t, 2)
		w.owns[peerName(1)] = []Endpoint{endpoint(1, "a")}
		w.step(peerName(1), Own{Endpoints: w.owns[peerName(1)]})
		w.step(peerName(1), Message{From: peerName(2), Data: data})
		w.step(peerName(1), Tick{})
	})
}
