package main

import (
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	beginMark = "<!-- bench:begin (written by make bench) -->"
	endMark   = "<!-- bench:end -->"
)

// heading says when, where and how was measured.
func heading(o options, m *meter) string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	iperf, _ := exec.Command("iperf3", "--version").Output()
	version, _, _ := strings.Cut(string(iperf), "\n")
	return fmt.Sprintf("%s, `make bench` (medians of %d interleaved rounds, %d s per TCP measurement, cubic).\n"+
		"%d processors, Linux %s, %s, %s; processor time from: %s.\n\n",
		time.Now().UTC().Format("2006-01-02"), o.rounds, o.seconds,
		goruntime.NumCPU(), unix.ByteSliceToString(u.Release[:]), goruntime.Version(), strings.TrimSpace(version), m.how)
}

// render makes one table; ratios are of one TCP stream.
func render(kind string, all []*contender) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", kind)
	b.WriteString("| contender | TCP 1 Gb/s | 4 streams | CPU-s/GB | UDP 64 B kpps ≤1 % loss | RR p50 µs | p99 | idle RSS MB | after | ÷ raw veth | ÷ wireguard-go |\n")
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	tcp1 := map[string]float64{}
	for _, c := range all {
		tcp1[c.name] = c.median(func(s sample) float64 { return s.tcp1 })
	}
	for _, c := range all {
		micro := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
		idle, after := "–", "–"
		if c.pid != 0 {
			idle, after = fmt.Sprintf("%.0f", c.rssIdle), fmt.Sprintf("%.0f", c.rssAfter)
		}
		fmt.Fprintf(&b, "| %s | %.2f | %.2f | %.2f | %.0f | %.0f | %.0f | %s | %s | %.2f | %.2f |\n", c.name,
			tcp1[c.name], c.median(func(s sample) float64 { return s.tcp4 }), c.median(func(s sample) float64 { return s.cpu }),
			c.median(func(s sample) float64 { return s.kpps }), c.median(func(s sample) float64 { return micro(s.p50) }),
			c.median(func(s sample) float64 { return micro(s.p99) }), idle, after,
			tcp1[c.name]/tcp1["raw veth"], tcp1[c.name]/tcp1["wireguard-go"])
	}
	b.WriteString("\n")
	return b.String()
}

func (c *contender) median(of func(sample) float64) float64 {
	var v []float64
	for _, s := range c.samples {
		v = append(v, of(s))
	}
	slices.Sort(v)
	if len(v)%2 == 0 {
		return (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return v[len(v)/2]
}

// replaceBetweenMarks puts text between the marks of a file, which gets a
// heading and marks if it is new.
func replaceBetweenMarks(path, text string) error {
	old, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		old, err = []byte("# Performance\n\n"+beginMark+"\n"+endMark+"\n"), nil
	}
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(old), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s has no lines %q and %q", path, beginMark, endMark)
	}
	return os.WriteFile(path, []byte(before+beginMark+"\n\n"+text+endMark+after), 0o644)
}
