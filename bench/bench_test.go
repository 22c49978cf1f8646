package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSearchFindsTheCapacity(t *testing.T) {
	for _, capacity := range []float64{3_000, 41_000, 97_000, 500_000} {
		tries := 0
		s := search{try: func(rate float64) attempt {
			tries++
			delivered := min(rate, capacity)
			return attempt{rate: rate, delivered: delivered, lost: 1 - delivered/rate}
		}}
		none, some := s.highest(noLoss), s.highest(someLoss)
		for limit, got := range map[string]float64{"no loss": none, "some loss": some} {
			if got > capacity || got < capacity/closeness/1.01 {
				t.Errorf("capacity %.0f: found %.0f with %s", capacity, got, limit)
			}
		}
		if some < none || tries > 25 {
			t.Errorf("capacity %.0f: %.0f with loss, %.0f without, after %d tries", capacity, some, none, tries)
		}
	}
}

// A path that loses something now and then, whatever the rate, must neither
// make the search run for ever nor end at nothing.
func TestSearchEndsOnANoisyPath(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		tries := 0
		s := search{try: func(rate float64) attempt {
			tries++
			lost := max(0, 1-80_000/rate)
			if r.Float64() < 0.3 {
				lost += 0.02
			}
			return attempt{rate: rate, delivered: rate * (1 - lost), lost: lost}
		}}
		s.highest(noLoss)
		if got := s.highest(someLoss); got == 0 || tries > 60 {
			t.Fatalf("found %.0f after %d tries", got, tries)
		}
	}
}

func TestSearchGivesUp(t *testing.T) {
	s := search{try: func(rate float64) attempt { return attempt{rate: rate, lost: 1} }}
	if got := s.highest(someLoss); got != 0 {
		t.Errorf("found %.0f where all is lost", got)
	}
}

func TestParseIperf(t *testing.T) {
	bits, bytes, err := parseIperf([]byte(`{"end":{"sum_received":{"bytes":100,"bits_per_second":800},
		"sum_received_bidir_reverse":{"bytes":50,"bits_per_second":400}}}`))
	if err != nil || bits != 1200 || bytes != 150 {
		t.Errorf("got %v bits per second, %v bytes, %v", bits, bytes, err)
	}
	for _, bad := range []string{``, `{"error":"unable to connect"}`, `{"end":{"sum_received":{"bytes":0}}}`} {
		if _, _, err := parseIperf([]byte(bad)); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestMedianAndQuantile(t *testing.T) {
	if got := median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("median of three: %v", got)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median of four: %v", got)
	}
	var times []time.Duration
	for i := range 1000 {
		times = append(times, time.Duration(i))
	}
	for q, want := range map[float64]time.Duration{0.5: 500, 0.99: 990, 0.999: 999, 1: 999} {
		if got := quantile(times, q); got != want {
			t.Errorf("quantile %v: %v, not %v", q, got, want)
		}
	}
}

func TestFragmented(t *testing.T) {
	if got := fragmented("Ip: InReceives FragOKs FragFails\nIp: 5 7 9\nIcmp: InMsgs\nIcmp: 1\n"); got != 7 {
		t.Errorf("got %d", got)
	}
	if got := fragmented("Ip: a b"); got != 0 {
		t.Errorf("got %d of a short text", got)
	}
}

func TestFastdKeys(t *testing.T) {
	secret, public := fastdKeys("2026 --- Info: Reading 32 bytes\nSecret: aa\nPublic: bb\n")
	if secret != "aa" || public != "bb" {
		t.Errorf("got %q, %q", secret, public)
	}
}

func stand(name string, f map[string][]float64) *contender {
	return &contender{entry: entry{name: name, title: name, peer: name != "weave" && name != "vxlan"}, figures: f}
}

func TestTargets(t *testing.T) {
	r := result{underlay: underlay{name: "N1500", about: "x"}, contenders: []*contender{
		stand("vxlan", map[string][]float64{"tcp1": {4}, "udp64.noloss": {200}}),
		stand("wireguard-go", map[string][]float64{"tcp1": {1, 1, 9}, "p50": {100}, "udp64.noloss": {40}}),
		stand("nebula", map[string][]float64{"udp64.noloss": {50}}),
		stand("weave", map[string][]float64{"tcp1": {3}, "p50": {70}, "udp64.noloss": {60}, "idle": {19}}),
	}}
	text := renderTargets([]result{r})
	for _, want := range []string{
		"| TCP one stream | N1500 | ≥ 2.5 × wireguard-go | 3.00 | yes |",
		"| TCP one stream | N1500 | ≥ 0.7 × vxlan | 0.75 | yes |",
		"| request/response p50 | N1500 | ≤ 0.6 × wireguard-go | 0.70 | no |",
		"| UDP 64 B without loss | N1500 | ≥ 1 × the best peer, nebula | 1.20 | yes |",
		"| RSS idle | N1500 | ≤ 30 MB | 19.00 | yes |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "× nebula |") || strings.Contains(text, "V1500") {
		t.Errorf("a target appears that was not measured:\n%s", text)
	}
}

func TestTableHasOnlyWhatWasMeasured(t *testing.T) {
	r := result{underlay: underlay{name: "V1500", about: "x"}, contenders: []*contender{
		stand("veth", map[string][]float64{"tcp1": {10, 20, 30}}),
		stand("weave", map[string][]float64{"tcp1": {5}, "idle": {19}}),
		stand("b", map[string][]float64{"tcp1": {6}, "idle": {19}}),
	}}
	p := &plan{options: options{also: map[string]string{"b": "/b"}}}
	want := "| contender | TCP 1 Gb/s | RSS idle MB | ÷ veth |\n|---|--:|--:|--:|\n" +
		"| veth | 20.00 (10.00–30.00) | – | 1.00 |\n| weave | 5.00 | 19 | 0.25 |\n| b | 6.00 | 19 | 0.30 |\n| b ÷ weave | 1.20 | 1.00 |  |\n\n"
	if got := render(p, r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestChoose(t *testing.T) {
	got, err := choose("work", "rr,tcp1", works())
	if err != nil || names(got) != "tcp1,rr" {
		t.Errorf("got %s, %v", names(got), err)
	}
	if _, err := choose("work", "tcp1,nap", works()); err == nil {
		t.Error("no error for an unknown work")
	}
	for _, u := range underlays() {
		if _, err := choose("work", u.works, works()); err != nil {
			t.Errorf("%s: %v", u.name, err)
		}
	}
}

func TestDefaultsTakeAboutAnHour(t *testing.T) {
	p, err := newPlan(options{rounds: 5, seconds: 3})
	if err != nil {
		t.Fatal(err)
	}
	p.entries = slices.DeleteFunc(entries(nil), func(e entry) bool { return e.asked }) // whatever is installed here
	if d := p.duration(); d > 65*time.Minute {
		t.Errorf("the default run takes %v", d)
	}
}

func TestReplaceBetweenMarks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.md")
	for _, text := range []string{"one\n", "two\n"} {
		if err := replaceBetweenMarks(path, text); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := os.ReadFile(path)
	if want := "# Performance\n\n" + beginMark + "\n\ntwo\n" + endMark + "\n"; string(got) != want {
		t.Errorf("got %q", got)
	}
	if err := os.WriteFile(path, []byte("no marks"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := replaceBetweenMarks(path, "x"); err == nil {
		t.Error("no error for a file without marks")
	}
}
