package dns

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"weave/peer"
)

// world is a few cores under one clock, with messages that get lost and late.
type world struct {
	t     testing.TB
	now   time.Time
	rand  *rand.Rand
	loss  float64
	cores map[peer.Name]*Core
	runs  map[peer.Name]uint64
	apart map[peer.Name]bool // on the other side of a partition
	mail  []letter

	unchecked bool // invariants are not verified after each step
	steps     map[peer.Name]int
	letters   int
	bytes     int
}

type letter struct {
	at       time.Time
	from, to peer.Name
	run      uint64
	data     []byte
}

func newWorld(t testing.TB, n int, seed uint64) *world {
	w := &world{
		t: t, now: start, rand: rand.New(rand.NewPCG(seed, 1)), loss: 0.2,
		cores: map[peer.Name]*Core{}, runs: map[peer.Name]uint64{}, apart: map[peer.Name]bool{},
	}
	for i := range n {
		w.boot(nth(i))
	}
	w.look()
	return w
}

func nth(i int) peer.Name { return peer.Name{2, 0, 0, 0, 0, byte(i + 1)} }

func (w *world) boot(n peer.Name) {
	w.runs[n] = w.rand.Uint64()
	w.cores[n] = newCore(n, w.runs[n])
}

func (w *world) step(n peer.Name, in Input) Effects {
	fx := w.cores[n].Step(w.now, in)
	if !w.unchecked {
		if err := w.cores[n].Check(); err != nil {
			w.t.Fatal(err)
		}
	}
	if w.steps == nil {
		w.steps = map[peer.Name]int{}
	}
	w.steps[n]++
	for _, s := range fx.Send {
		for to := range w.cores {
			if to != n && (s.To == to || s.To.IsZero()) && w.rand.Float64() >= w.loss {
				late := time.Duration(w.rand.IntN(300)) * time.Millisecond
				w.mail = append(w.mail, letter{w.now.Add(late), n, to, w.runs[n], s.Data})
				w.letters++
				w.bytes += len(s.Data)
			}
		}
	}
	return fx
}

// look shows every core whom it can reach.
func (w *world) look() {
	for n := range w.cores {
		in := Reachable{Peers: map[peer.Name]uint64{}}
		for o, run := range w.runs {
			if w.cores[o] != nil && w.apart[o] == w.apart[n] {
				in.Peers[o] = run
			}
		}
		w.step(n, in)
	}
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(20 * time.Millisecond) {
		mail := w.mail
		w.mail = nil
		for _, l := range mail {
			switch {
			case l.at.After(w.now):
				w.mail = append(w.mail, l)
			case w.cores[l.to] != nil && w.cores[l.from] != nil && w.apart[l.from] == w.apart[l.to]:
				w.step(l.to, Message{From: l.from, Data: l.data})
			}
		}
		for n, c := range w.cores {
			if at := c.Deadline(); !at.IsZero() && !at.After(w.now) {
				w.step(n, Tick{})
			}
		}
	}
}

// verify has everybody know exactly what those know who are reachable from it.
func (w *world) verify(what string) {
	w.t.Helper()
	for n, c := range w.cores {
		want := map[string]bool{}
		for o, oc := range w.cores {
			if w.apart[o] == w.apart[n] {
				for k, e := range oc.cat.origins[o].entries {
					if !e.Dead {
						want[o.String()+k.name+k.addr.String()] = true
					}
				}
			}
		}
		got := 0
		for _, e := range c.Index().Entries() {
			if e.Dead {
				continue
			}
			if got++; !want[e.Origin.String()+Canonical(e.Name)+e.Addr.String()] {
				w.t.Fatalf("%s: %s knows %v of %s, which is not so", what, n, e.Record, e.Origin)
			}
		}
		if got != len(want) {
			w.t.Fatalf("%s: %s knows %d names of %d", what, n, got, len(want))
		}
	}
}

func (w *world) anybody() peer.Name {
	return peer.Name{2, 0, 0, 0, 0, byte(1 + w.rand.IntN(len(w.cores)))}
}

// trouble is a minute of changes, restarts and partitions.
func (w *world) trouble() {
	for range 60 {
		n := w.anybody()
		r := rec(fmt.Sprintf("n%d.weave.local", w.rand.IntN(10)), "c", fmt.Sprintf("10.0.%d.%d", n[5], 1+w.rand.IntN(5)))
		switch k := w.rand.IntN(20); {
		case k == 0:
			w.boot(n)
			w.look()
		case k == 1:
			w.apart[n] = !w.apart[n]
			w.look()
		case k < 12:
			w.step(n, Add{Records: []Record{r}})
		default:
			w.step(n, Remove{Name: r.Name})
		}
		w.pass(time.Second)
	}
}

// Loss, late letters, restarts and partitions: once it is quiet, all agree.
func TestCataloguesConverge(t *testing.T) {
	for seed := range uint64(8) {
		w := newWorld(t, 5, seed)
		w.trouble()
		w.pass(3 * time.Minute) // a digest or two of each, and lost ones
		w.verify(fmt.Sprintf("seed %d, apart", seed))
		w.apart = map[peer.Name]bool{}
		w.look()
		w.pass(3 * time.Minute)
		w.verify(fmt.Sprintf("seed %d, together", seed))
	}
}

// A catalogue larger than one answer comes in parts, also when some get lost.
func TestLargeCatalogueArrives(t *testing.T) {
	w := newWorld(t, 2, 1)
	w.cores[bob] = nil
	delete(w.cores, bob)
	w.look()
	for i := range 100 {
		var in Add
		for j := range 100 {
			in.Records = append(in.Records, rec(fmt.Sprintf("host-%d.weave.local", i*100+j), fmt.Sprintf("container-%d", i), fmt.Sprintf("10.1.%d.%d", i, j)))
		}
		w.step(alice, in)
	}
	w.boot(bob)
	w.look()
	w.pass(20 * time.Second)
	w.verify("after a start")
}

// A peer that leaves takes its names along at once, and a new run starts empty.
func TestNamesGoWithTheirPeer(t *testing.T) {
	w := newWorld(t, 2, 1)
	w.loss = 0
	w.step(alice, Add{Records: []Record{rec("a.weave.local", "c", "10.0.0.1")}})
	w.pass(time.Second)
	w.verify("told")
	w.apart[alice] = true
	w.look()
	if n := w.cores[bob].Index().Len(); n != 0 {
		t.Errorf("%d names of a peer that is gone", n)
	}
	w.apart[alice] = false
	w.look()
	w.pass(time.Second)
	w.verify("back")
	w.boot(alice)
	w.look()
	if n := w.cores[bob].Index().Len(); n != 0 {
		t.Errorf("%d names of an earlier run", n)
	}
}

func TestAddAndRemove(t *testing.T) {
	c := newCore(alice, 1)
	for _, step := range []struct {
		in           Input
		count, alive int
	}{
		{Add{Records: []Record{rec("a.weave.local.", "c1", "10.0.0.1"), rec("A.weave.local", "c2", "10.0.0.2"), rec("a.example.com", "c1", "10.0.0.1")}}, 2, 2},
		{Add{Records: []Record{rec("a.weave.local", "c1", "10.0.0.1")}}, 0, 2},
		{Add{Records: []Record{rec("b.weave.local", "c1", "10.0.0.1")}}, 1, 3},
		{Remove{Name: "A.WEAVE.LOCAL.", Ident: "c1"}, 1, 2},
		{Remove{Name: "nobody.weave.local"}, 0, 2},
		{Remove{Ident: "c1"}, 1, 1},
		{Add{Records: []Record{rec("a.weave.local", "c1", "10.0.0.1")}}, 1, 2},
		{Remove{}, 2, 0},
	} {
		fx := c.Step(start, step.in)
		if len(fx.Replies) != 1 || fx.Replies[0].Count != step.count || fx.Replies[0].Fault != "" || c.Index().Len() != step.alive {
			t.Errorf("%+v: %+v, %d alive", step.in, fx.Replies, c.Index().Len())
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		if told := len(fx.Send); (step.count > 0) != (told == 1) {
			t.Errorf("%+v: told %d times", step.in, told)
		}
	}
	c.Step(start.Add(tombstoneTime), Tick{})
	if n := len(c.Index().Entries()); n != 0 {
		t.Errorf("%d entries are shown after half an hour", n)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	bad := Record{Name: "x y.weave.local", Ident: "c", Addr: rec("a", "b", "10.0.0.1").Addr}
	if fx := c.Step(start.Add(tombstoneTime), Add{Records: []Record{bad}}); fx.Replies[0].Fault == "" {
		t.Error("a strange name is taken")
	}
}
