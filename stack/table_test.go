package stack

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// learnt gives the table of a switch as a map.
func learnt(s *Switch) map[MAC]Port {
	out := map[MAC]Port{}
	for _, e := range s.MACs() {
		out[e.MAC] = e.Port
	}
	return out
}

// A full table keeps what it has, floods the rest and recovers when entries age out.
func TestFullTable(t *testing.T) {
	s := trio(Config{Seed: 7})
	const more = 1000
	hello := func(n int, now Stamp) { tell(t, s, now, frameOf(number(0), number(n), EtherTypeARP), 1) }
	for n := 1; n <= DefaultCapacity+more; n++ {
		hello(n, 100)
	}
	if got := len(learnt(s)); got != DefaultCapacity || s.Counters().NotLearnt != more {
		t.Fatalf("learnt %d, not learnt %d", got, s.Counters().NotLearnt)
	}
	for n := 1; n <= DefaultCapacity+more; n++ {
		v := s.Decide(100, frameOf(number(n), number(1), EtherTypeARP), 2) // moves number 1 to port 2
		want := Unicast
		if n > DefaultCapacity {
			want = Flood
		}
		if n > 1 && v.Action != want {
			t.Fatalf("number %d: %+v", n, v)
		}
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	s.Age(700)
	if got := len(learnt(s)); got != 0 {
		t.Fatalf("%d left after their time", got)
	}
	for n := 1; n <= DefaultCapacity; n++ {
		hello(DefaultCapacity+n, 701)
	}
	if got := len(learnt(s)); got != DefaultCapacity || s.Counters().NotLearnt != more {
		t.Fatalf("learnt %d again, not learnt %d", got, s.Counters().NotLearnt)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
}

// Slots are given back in the end, so that walks for unknown addresses stay short.
func TestSlotsComeFree(t *testing.T) {
	s := trio(Config{Capacity: 1000})
	for n := range 1000 {
		s.Decide(1, frameOf(number(0), number(n), EtherTypeARP), 1)
	}
	s.Age(601)
	s.Age(602)
	s.Age(603)
	for i := range s.table.slots {
		if e := s.table.slots[i].entry.Load(); e != 0 {
			t.Fatalf("slot %d still holds %#x", i, e)
		}
	}
}

func TestAgeing(t *testing.T) {
	s := trio(Config{})
	to := frameOf(number(1), number(2), EtherTypeARP)
	s.Decide(1000, frameOf(number(2), number(1), EtherTypeARP), 1)
	for _, c := range []struct {
		now  Stamp
		want Action
	}{{1000, Unicast}, {990, Unicast}, {1599, Unicast}, {1600, Flood}} {
		if v := s.Decide(c.now, to, 2); v.Action != c.want {
			t.Errorf("at %d: %+v, want %v", c.now, v, c.want)
		}
	}
	s.Decide(1600, frameOf(number(2), number(1), EtherTypeARP), 3)
	if v := s.Decide(1601, to, 2); v.Out != 3 {
		t.Errorf("heard again on port 3: %+v", v)
	}
	s.Age(2199)
	if v := s.Decide(2199, to, 2); v.Out != 3 {
		t.Errorf("aged too soon: %+v", v)
	}
	s.Age(2200)
	if _, there := learnt(s)[number(1)]; there {
		t.Error("still there after its time")
	}
}

// When an entry is in the table twice, as a race can leave it, Age removes the one out of reach.
func TestAgeRemovesDoubles(t *testing.T) {
	s := trio(Config{Capacity: 8})
	mac := number(1).bits()
	s.table.learn(mac, 1, 5, 0)
	i := s.table.home(mac) & s.table.mask
	double := &s.table.slots[(i+1)&s.table.mask]
	double.entry.Store(mac<<16 | 2)
	double.seen.Store(5)
	s.table.live.Add(1)
	if s.Check() == nil {
		t.Fatal("check did not see the double")
	}
	s.Age(6)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	if got := s.table.lookup(mac, 6); got != 1 {
		t.Errorf("port %d", got)
	}
}

// Learners, lookups, ageing, ports coming and going, multicast and snapshots all at once; then everything is consistent.
func TestConcurrent(t *testing.T) {
	s := trio(Config{Capacity: 64, MaxAge: 2e9, MaxGroups: 8, PerPort: PortLimits{MACs: 20, Broadcasts: 50, Multicasts: 5}})
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			for i := range 20000 {
				now, in := Stamp(i/200), Port(1+rng.IntN(5))
				src := number(1 + rng.IntN(80))
				var f []byte
				switch rng.IntN(50) {
				case 0:
					f = query(rng.IntN(2) == 0, src, 1)
				case 1:
					f = report(g4(rng.IntN(10)), src)
				case 2:
					f = data(g4(rng.IntN(10)), src)
				default:
					f = frameOf(number(1+rng.IntN(80)), src, EtherTypeARP)
				}
				if v := s.Decide(now, f, in); v.Ports.Contains(in) || v.Action == Unicast && v.Out == in {
					t.Errorf("%+v: back to port %d", v, in)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 400 {
			s.AddPort(5, PortKind(1+i%2))
			s.Age(Stamp(i / 4))
			s.MACs()
			s.Counters()
			s.RemovePort(5)
		}
	})
	wg.Wait()
	// A walk that a race left with a hole in it is mended by the ageing.
	s.Age(100)
	s.Age(100)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
}

// Many goroutines that learn the same new addresses enter each once.
func TestConcurrentLearners(t *testing.T) {
	s := trio(Config{})
	const macs = 20000
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := range macs {
				s.Decide(1, frameOf(number(0), number(1+n), EtherTypeARP), Port(1+worker))
			}
		})
	}
	wg.Wait()
	if got := len(s.MACs()); got != macs {
		t.Errorf("%d entries for %d addresses", got, macs)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
}
