package peer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"weave/peer/wire"
)

// fastEnd is one of two ends in a fastWorld.
type fastEnd struct {
	f       *FastPaths
	name    Name
	addr    netip.Addr
	up      bool // the daemon runs
	sealed  bool // there is a password
	shield  bool // and a shield
	raised  map[netip.Addr]bool
	life    uint64
	why     string
	saved   []byte
	allow   []netip.Addr // the kernel's, which outlive the daemon
	beats   []netip.Addr
	flooded []netip.Addr
	moves   []FastMove
	heard   time.Time
}

// fastWorld is two ends, what carries VXLAN between them and what carries their session.
type fastWorld struct {
	t       rapid.TB
	now     time.Time
	ends    [2]*fastEnd
	vxlan   [2]bool // from ends[i]
	session bool
	gone    [2]bool // the mesh no longer tells ends[i] of the other
}

func newFastWorld(t rapid.TB) *fastWorld {
	w := &fastWorld{t: t, now: epoch, vxlan: [2]bool{true, true}, session: true}
	for i := range w.ends {
		w.ends[i] = &fastEnd{name: Name{byte(2 * (i + 1))}, addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), raised: map[netip.Addr]bool{}}
		w.start(i)
	}
	return w
}

// start starts a daemon, after a first life as one that adopts what the kernel has.
func (w *fastWorld) start(i int) {
	e := w.ends[i]
	e.f = NewFastPaths(e.name, rand.NewChaCha8([32]byte{byte(i), byte(e.life)}))
	e.up = true
	e.life++
	w.step(i, FastAdopt{Saved: e.saved, Flooded: slices.Clone(e.flooded)})
}

func (w *fastWorld) step(i int, in FastInput) {
	e, o := w.ends[i], w.ends[1-i]
	eff := e.f.Step(w.now, in)
	if err := e.f.Check(); err != nil {
		w.t.Fatalf("after %T%+v: %v", in, in, err)
	}
	if eff.Save != nil {
		e.saved = eff.Save
	}
	for _, s := range eff.Raise {
		if e.raised[s.At] {
			w.t.Fatalf("raised twice: %+v", s)
		}
		e.raised[s.At] = true
	}
	if eff.Changed {
		e.allow, e.beats = eff.Allow, eff.Beats
	}
	for _, m := range eff.Moves {
		if was := slices.Contains(e.flooded, m.At); was == m.On {
			w.t.Fatalf("moved to where it is: %+v", m)
		}
		if m.On && (!slices.Contains(e.allow, m.At) || !slices.Contains(e.beats, m.At)) {
			w.t.Fatalf("on and not let in: %+v", m)
		}
		if m.On {
			e.flooded = append(e.flooded, m.At)
		} else {
			e.flooded = slices.DeleteFunc(e.flooded, func(a netip.Addr) bool { return a == m.At })
		}
		e.moves = append(e.moves, m)
	}
	for _, s := range eff.Lower {
		if !e.raised[s.At] || slices.Contains(e.allow, s.At) || slices.Contains(e.beats, s.At) || slices.Contains(e.flooded, s.At) {
			w.t.Fatalf("lowered while in use, or not raised: %+v", s)
		}
		delete(e.raised, s.At)
	}
	if e.shield && len(e.allow)+len(e.beats)+len(e.flooded) > 0 && !e.raised[o.addr] {
		w.t.Fatalf("in use without its shield: %v %v %v", e.allow, e.beats, e.flooded)
	}
	if eff.Beat != nil && w.vxlan[i] && slices.Contains(e.beats, o.addr) && slices.Contains(o.allow, e.addr) && o.up {
		w.step(1-i, FastHeard{Beat: wire.FastBeat{Name: e.name, Nonce: *eff.Beat}})
	}
	for _, s := range eff.Reports {
		if s.To == o.name && w.session && o.up {
			o.heard = w.now
			w.step(1-i, FastReported{Name: e.name, Report: s.Report})
		}
	}
}

// run lets time pass in ticks of 250 ms, the ends one after the other.
func (w *fastWorld) run(d time.Duration) {
	const half = 125 * time.Millisecond
	for end := w.now.Add(d); w.now.Before(end); {
		for i, e := range w.ends {
			o := w.ends[1-i]
			w.now = w.now.Add(half)
			if !e.up {
				continue
			}
			if w.session && o.up { // heartbeats
				e.heard = w.now
			}
			if !w.gone[i] {
				w.step(i, FastPeer{
					Name: o.name, Life: o.life, At: o.addr, Froms: []netip.Addr{o.addr}, Why: e.why, Shield: e.shield,
					Pending: !o.up, Linked: o.up, Heard: e.heard,
				})
			}
			w.step(i, FastTick{Sealed: e.sealed})
		}
	}
}

func (w *fastWorld) on(i int) bool {
	s, _ := w.ends[i].f.State(w.ends[1-i].name)
	return s == wire.FastOn
}

func (w *fastWorld) want(on bool, what string) {
	w.t.Helper()
	for i := range w.ends {
		if w.on(i) != on {
			_, why := w.ends[i].f.State(w.ends[1-i].name)
			w.t.Fatalf("%s: end %d on: %v (%s)", what, i, !on, why)
		}
		if got := len(w.ends[i].flooded) == 1; got != on {
			w.t.Fatalf("%s: end %d floods to %v", what, i, w.ends[i].flooded)
		}
	}
}

func TestFastPathsUpAndLeft(t *testing.T) {
	for what, block := range map[string][2]bool{"both ways": {}, "to one end": {true, false}, "to the other": {false, true}} {
		t.Run(what, func(t *testing.T) {
			w := newFastWorld(t)
			w.run(4 * time.Second)
			w.want(true, "at first")
			w.vxlan = block
			w.run(3 * time.Second)
			w.want(false, "blocked")
			if _, why := w.ends[0].f.State(w.ends[1].name); why == "" {
				t.Error("no reason")
			}
			w.run(10 * time.Minute)
			w.want(false, "blocked for long")
			w.vxlan = [2]bool{true, true}
			w.run(fastRetryMax + 10*time.Second)
			w.want(true, "open again")
		})
	}
}

// A daemon that goes away takes nothing with it, and the one that comes back takes up what is there.
func TestFastPathsOutliveDaemon(t *testing.T) {
	for what, away := range map[string]time.Duration{"at once": 0, "soon": 5 * time.Second, "late": 5 * time.Minute} {
		t.Run(what, func(t *testing.T) {
			w := newFastWorld(t)
			w.run(4 * time.Second)
			w.want(true, "at first")
			before := [2]int{len(w.ends[0].moves), len(w.ends[1].moves)}
			w.ends[1].up = false
			w.run(away)
			if away > time.Minute {
				w.gone[0] = true
				w.step(0, FastGone{Name: w.ends[1].name})
				w.run(time.Second)
				w.gone[0] = false
			}
			w.start(1)
			w.run(20 * time.Second)
			w.want(true, "back")
			for i, e := range w.ends {
				if len(e.moves) != before[i] {
					t.Errorf("end %d moved: %+v", i, e.moves[before[i]:])
				}
			}
		})
	}
}

// What is flooded to by the kernel and nobody knows of is taken away; a peer that never comes back is not kept for ever.
func TestFastPathsStrangers(t *testing.T) {
	w := newFastWorld(t)
	stray := netip.MustParseAddr("192.0.2.77")
	w.run(4 * time.Second)
	w.ends[0].flooded = append(w.ends[0].flooded, stray)
	w.start(0)
	if slices.Contains(w.ends[0].flooded, stray) || len(w.ends[0].flooded) != 1 {
		t.Errorf("floods to %v", w.ends[0].flooded)
	}
	w.ends[0].saved = []byte("{")
	w.start(0)
	if len(w.ends[0].flooded) != 0 {
		t.Errorf("with nothing saved: floods to %v", w.ends[0].flooded)
	}
	w.run(time.Minute)
	w.want(true, "started anew")
	w.ends[1].up = false
	w.gone[0] = true
	w.step(0, FastGone{Name: w.ends[1].name})
	w.run(fastAway - time.Minute)
	if len(w.ends[0].flooded) == 0 {
		t.Error("given up at once")
	}
	w.run(2 * time.Minute)
	if len(w.ends[0].flooded) != 0 || len(w.ends[0].allow) != 0 {
		t.Errorf("kept for ever: %v", w.ends[0].flooded)
	}
}

// With a password nobody stays on the path while away, but who is trusted; and one that may be used behind a shield only
// has it as long as anything is sent there or let in.
func TestFastPathsSealed(t *testing.T) {
	w := newFastWorld(t)
	w.run(4 * time.Second)
	w.want(true, "at first")
	w.ends[1].up = false
	w.run(time.Second)
	w.ends[0].sealed = true
	w.run(time.Second)
	if len(w.ends[0].flooded) != 0 || len(w.ends[0].allow) != 0 {
		t.Errorf("floods in clear to %v, lets in %v", w.ends[0].flooded, w.ends[0].allow)
	}

	w = newFastWorld(t)
	for _, e := range w.ends {
		e.sealed, e.shield = true, true
	}
	w.run(4 * time.Second)
	w.want(true, "behind a shield")
	w.vxlan[0] = false
	w.run(3 * time.Second)
	w.want(false, "blocked")
	w.run(20 * time.Second)
	if len(w.ends[0].allow) == 0 && len(w.ends[0].raised) != 0 {
		t.Error("a shield is left")
	}

	// A daemon that comes back with a password takes up nothing that it must not.
	w = newFastWorld(t)
	w.run(4 * time.Second)
	e := w.ends[0]
	e.f = NewFastPaths(e.name, rand.NewChaCha8([32]byte{9}))
	w.step(0, FastAdopt{Saved: e.saved, Flooded: slices.Clone(e.flooded), Barred: slices.Clone(e.flooded), Sealed: true})
	if len(e.flooded) != 0 || len(e.allow) != 0 {
		t.Errorf("floods in clear to %v, lets in %v", e.flooded, e.allow)
	}
}

// Beats that only look like a peer's prove nothing.
func TestFastPathsForgedBeats(t *testing.T) {
	w := newFastWorld(t)
	w.vxlan = [2]bool{}
	random := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		for i := range w.ends {
			b := wire.FastBeat{Name: w.ends[1-i].name}
			for j := range b.Nonce {
				b.Nonce[j] = byte(random.Uint32())
			}
			w.step(i, FastHeard{Beat: b})
		}
		w.run(250 * time.Millisecond)
		if w.on(0) || w.on(1) {
			t.Fatal("on by forged beats")
		}
	}
	if len(w.ends[0].moves)+len(w.ends[1].moves) != 0 {
		t.Error("moved by forged beats")
	}
}

// Whatever happens, the two are off within 3 s of a path that fails while their session lives, and on within some time
// when nothing is wrong any more.
func TestFastPathsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newFastWorld(t)
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			switch rapid.IntRange(0, 5).Draw(t, "event") {
			case 0, 1:
				w.vxlan = [2]bool{rapid.Bool().Draw(t, "there"), rapid.Bool().Draw(t, "back")}
			case 2:
				w.session = rapid.Bool().Draw(t, "session")
			case 3:
				e := w.ends[rapid.IntRange(0, 1).Draw(t, "end")]
				e.why = rapid.SampledFrom([]string{"", "no"}).Draw(t, "why")
			case 4:
				w.ends[rapid.IntRange(0, 1).Draw(t, "end")].up = false
			case 5:
				for i, e := range w.ends {
					if !e.up {
						w.start(i)
					}
				}
			}
			w.run(time.Duration(rapid.IntRange(0, 40).Draw(t, "ticks")) * 250 * time.Millisecond)
		}
		if w.session && w.ends[0].up && w.ends[1].up && !(w.vxlan[0] && w.vxlan[1]) {
			w.run(fastGrace + 3*time.Second) // the one may just have come back
			w.want(false, fmt.Sprint("VXLAN passes ", w.vxlan))
		}
		w.vxlan, w.session = [2]bool{true, true}, true
		for i, e := range w.ends {
			e.why = ""
			if !e.up {
				w.start(i)
			}
		}
		w.run(2*fastRetryMax + 20*time.Second)
		w.want(true, "nothing is wrong")
	})
}

// An address of a peer that is found to work later is let in as well, unless another peer has it.
func TestFastPathsLaterAddress(t *testing.T) {
	w := newFastWorld(t)
	w.run(4 * time.Second)
	w.want(true, "at first")
	o, more := w.ends[1], netip.MustParseAddr("2001:db8::2")
	known := FastPeer{Name: o.name, Life: o.life, At: o.addr, Froms: []netip.Addr{more}, Linked: true, Heard: w.now}
	w.step(0, known)
	if got := w.ends[0].allow; !slices.Contains(got, more) || !slices.Contains(got, o.addr) {
		t.Errorf("lets in %v", got)
	}
	third := FastPeer{Name: Name{9}, Life: 1, At: more, Froms: []netip.Addr{more}, Linked: true, Heard: w.now}
	w.step(0, third)
	w.run(time.Second)
	if s, why := w.ends[0].f.State(third.Name); s != wire.FastOff || why != "another peer is at 2001:db8::2" {
		t.Errorf("the other peer there is in state %d: %s", s, why)
	}
}
