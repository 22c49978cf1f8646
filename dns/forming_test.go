package dns

import (
	"fmt"
	"testing"
	"time"
)

// formed is what it took a network to form.
type formed struct {
	pairs, names  int // of different peers, and of names that came to one from another
	steps         int // inputs of all cores
	letters       int
	bytes         int
	took          time.Duration // of the simulation's clock
	worst         int           // steps of one core at most
	perNamesBytes float64
	perPairSteps  float64
}

// form has peers that have names already meet all at once, in a network without
// loss that takes up to 300 ms, and waits until everybody knows every name.
func form(t testing.TB, peers, names int) formed {
	t.Helper()
	w := newWorld(t, 0, 1)
	w.loss, w.unchecked = 0, true
	for i := range peers {
		w.boot(nth(i))
	}
	for i := range peers {
		var in Add
		for j := range names {
			in.Records = append(in.Records, rec(fmt.Sprintf("host-%d-%d.weave.local", i, j), fmt.Sprintf("%012x", j), fmt.Sprintf("10.%d.%d.%d", i, j/250, 1+j%250)))
		}
		w.step(nth(i), in)
	}
	w.mail, w.steps, w.letters, w.bytes = nil, nil, 0, 0 // nobody could be reached yet
	w.look()
	began := w.now
	for w.known() < peers*peers*names {
		if w.now.Sub(began) > 5*time.Minute {
			t.Fatalf("%d peers with %d names do not know each other after 5 minutes", peers, names)
		}
		w.pass(20 * time.Millisecond)
	}
	f := formed{pairs: peers * (peers - 1), letters: w.letters, bytes: w.bytes, took: w.now.Sub(began)}
	f.names = f.pairs * names
	for _, n := range w.steps {
		f.steps += n
		f.worst = max(f.worst, n)
	}
	f.perNamesBytes = float64(f.bytes) / float64(f.names)
	f.perPairSteps = float64(f.steps) / float64(f.pairs)
	return f
}

// known is how many names all know together.
func (w *world) known() int {
	n := 0
	for _, c := range w.cores {
		n += c.Index().Len()
	}
	return n
}

// Everybody has to be told every name once. What that takes grows as the number
// of names that each receives, and no faster: letters with the peers, bytes with
// the names.
func TestFormingIsLinear(t *testing.T) {
	small := form(t, 10, 40)
	for _, c := range []struct{ peers, names int }{{40, 40}, {10, 400}, {80, 10}} {
		f := form(t, c.peers, c.names)
		t.Logf("%d peers with %d names: %+v", c.peers, c.names, f)
		if f.perPairSteps > 1.5*small.perPairSteps {
			t.Errorf("%d peers with %d names: %.1f steps for each pair of peers, not %.1f", c.peers, c.names, f.perPairSteps, small.perPairSteps)
		}
		if most := 1.3*small.perNamesBytes + 100*float64(f.letters)/float64(f.names); f.perNamesBytes > most {
			t.Errorf("%d peers with %d names: %.0f bytes for each name that came, not %.0f", c.peers, c.names, f.perNamesBytes, most)
		}
		if mean := f.steps / c.peers; f.worst > 2*mean {
			t.Errorf("%d peers: one took %d steps, the mean is %d", c.peers, f.worst, mean)
		}
	}
}

// A network forms: -bench Forming -benchtime 1x. The largest keeps 20 million
// entries in memory, 200 catalogues of 100,000 names.
func BenchmarkForming(b *testing.B) {
	for _, peers := range []int{25, 50, 100, 200} {
		b.Run(fmt.Sprintf("%dx500", peers), func(b *testing.B) {
			for b.Loop() {
				f := form(b, peers, 500)
				b.ReportMetric(f.perNamesBytes, "bytes/name")
				b.ReportMetric(f.perPairSteps, "steps/pair")
				b.ReportMetric(float64(f.letters)/float64(f.pairs), "letters/pair")
				b.ReportMetric(f.took.Seconds(), "simulated-s")
				b.ReportMetric(float64(f.bytes)/float64(peers)/1e6, "MB/peer")
			}
		})
	}
}
