package main

import (
	"fmt"
	"os"
	goruntime "runtime"
	"strings"
	"time"
)

const (
	beginMark = "<!-- sim:begin (written by make sim) -->"
	endMark   = "<!-- sim:end -->"
)

// heading says when and how was measured.
func heading(sizes string, seed uint64) string {
	return fmt.Sprintf("%s, `make sim` (`go run ./internal/sim/report -peers %s -seed %d`), %s, %d processors.\n\n",
		time.Now().UTC().Format("2006-01-02"), sizes, seed, goruntime.Version(), goruntime.NumCPU())
}

// row is one line of the table.
type row struct {
	what string
	cell func(c *column) string
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }

func kilo(b float64) string { return fmt.Sprintf("%.1f", b/1000) }

// ofCore is processor time as a share of one core, in percent.
func (c cost) ofCore() string {
	if c.ran == 0 {
		return "–"
	}
	return fmt.Sprintf("%.3f", 100*c.cpu/c.ran.Seconds())
}

var rows = []row{
	{"connections per peer: mean / most", func(c *column) string { return fmt.Sprintf("%.1f / %d", c.shape.MeanDegree, c.shape.MaxDegree) }},
	{"diameter of the control graph, hops", func(c *column) string { return fmt.Sprint(c.shape.Diameter) }},
	{"**joining**: s from the last join to equal records everywhere", func(c *column) string { return seconds(c.join.took) }},
	{"messages / kB per peer", func(c *column) string { return fmt.Sprintf("%.0f / %s", c.join.messages, kilo(c.join.bytes)) }},
	{"MB sent by the seed", func(c *column) string { return kilo(float64(c.seedBytes) / 1000) }},
	{"% of a core per peer", func(c *column) string { return c.join.ofCore() }},
	{"**idle**: B/s per peer", func(c *column) string { return fmt.Sprintf("%.1f", c.idle.bytes/c.idle.ran.Seconds()) }},
	{"messages/s per peer", func(c *column) string { return fmt.Sprintf("%.2f", c.idle.messages/c.idle.ran.Seconds()) }},
	{"% of a core per peer", func(c *column) string { return c.idle.ofCore() }},
	{"**link flap**: s until everybody knows (worst of 5)", func(c *column) string { return fmt.Sprintf("%.2f", c.flap.took.Seconds()) }},
	{"kB per peer, with what follows in 20 s", func(c *column) string { return kilo(c.flap.bytes) }},
	{"**10 % die**: s to equal records", func(c *column) string { return seconds(c.die.took) }},
	{"messages / kB per peer", func(c *column) string { return fmt.Sprintf("%.0f / %s", c.die.messages, kilo(c.die.bytes)) }},
	{"% of a core per peer", func(c *column) string { return c.die.ofCore() }},
	{"**partition 50/50**: s until each half has equal records", func(c *column) string { return seconds(c.split.took) }},
	{"kB per peer, in the minute it lasts", func(c *column) string { return kilo(c.split.bytes) }},
	{"**healing**: s to equal records", func(c *column) string { return seconds(c.heal.took) }},
	{"messages / kB per peer", func(c *column) string { return fmt.Sprintf("%.0f / %s", c.heal.messages, kilo(c.heal.bytes)) }},
	{"% of a core per peer", func(c *column) string { return c.heal.ofCore() }},
	{"heap per peer, MB: equal records shared / own copies", func(c *column) string { return fmt.Sprintf("%.2f / %.2f", c.heap/1e6, c.heapAlone/1e6) }},
	{"all routes of one peer once, ms", func(c *column) string { return fmt.Sprintf("%.2f", float64(c.routes)/1e6) }},
	{"the run itself, s of real time", func(c *column) string { return fmt.Sprintf("%.0f", c.wall.Seconds()) }},
}

func table(columns []column) string {
	var b strings.Builder
	b.WriteString("| peers |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %d |", c.peers)
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(columns)) + "\n")
	for _, r := range rows {
		b.WriteString("| " + r.what + " |")
		for i := range columns {
			b.WriteString(" " + r.cell(&columns[i]) + " |")
		}
		b.WriteString("\n")
	}
	return b.String() + "\n"
}

// replaceBetweenMarks puts text between the marks of a file.
func replaceBetweenMarks(path, text string) error {
	old, err := os.ReadFile(path)
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
