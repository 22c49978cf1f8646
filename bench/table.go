package main

import (
	"debug/buildinfo"
	"fmt"
	"maps"
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
	nothing   = "–" // a cell without a figure
)

// heading says when, where and how was measured.
func heading(p *plan, m *meter, took time.Duration) string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	versions := []string{"Linux " + unix.ByteSliceToString(u.Release[:]), goruntime.Version(), firstLine("iperf3", "--version")}
	for _, e := range p.entries {
		switch e.name {
		case "wireguard-go":
			versions = append(versions, "wireguard-go "+moduleVersion(p.programs, e.name, "golang.zx2c4.com/wireguard"))
		case "nebula":
			versions = append(versions, "nebula "+moduleVersion(p.programs, e.name, "github.com/slackhq/nebula"))
		case "tinc":
			version, _, _ := strings.Cut(firstLine("tincd", "--version"), " (")
			versions = append(versions, version)
		case "fastd":
			versions = append(versions, firstLine("fastd", "--version"))
		}
	}
	text := fmt.Sprintf("%s, `make bench` (medians of %d interleaved rounds, %d s per TCP measurement, cubic; %v in all).\n"+
		"%d processors, %s; processor time from: %s.\n",
		time.Now().UTC().Format("2006-01-02"), p.rounds, p.seconds, took.Round(time.Second),
		goruntime.NumCPU(), strings.Join(versions, ", "), m.how)
	for _, line := range p.missing {
		text += "Left out: " + line + ".\n"
	}
	return text + "\n"
}

func firstLine(name string, args ...string) string {
	text, _ := exec.Command(name, args...).Output()
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// moduleVersion reads from a program which version of a module is in it.
func moduleVersion(programs, name, module string) string {
	path, err := find(programs, name)
	if err != nil {
		return "?"
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return firstLine(path, "-version")
	}
	for _, dep := range append(info.Deps, &info.Main) {
		if dep.Path == module {
			return dep.Version
		}
	}
	return "?"
}

// column is one figure of a table.
type column struct {
	figure, title, format string
	spread                bool // with least and most
}

func columns() []column {
	return []column{
		{"tcp1", "TCP 1 Gb/s", "%.2f", true},
		{"tcp4", "4 streams", "%.2f", false},
		{"reverse", "reverse", "%.2f", false},
		{"bidir", "both ways", "%.2f", false},
		{"tcp1.cpu", "CPU-s/GB", "%.2f", true},
		{"udp64.noloss", "64 B kpps ≤0.1 % loss", "%.0f", false},
		{"udp64", "≤1 %", "%.0f", false},
		{"udp1200.noloss", "1,200 B kpps ≤0.1 %", "%.0f", false},
		{"udp1200", "≤1 %", "%.0f", false},
		{"p50", "RR p50 µs", "%.0f", false},
		{"p99", "p99", "%.0f", false},
		{"p999", "p99.9", "%.0f", false},
		{"cps", "conn/s", "%.0f", false},
		{"idle", "RSS idle MB", "%.0f", false},
		{"after", "after", "%.0f", false},
	}
}

// renderAll makes the table of targets and one table per underlay.
func renderAll(p *plan, results []result) string {
	var b strings.Builder
	b.WriteString(renderTargets(results))
	for _, r := range results {
		fmt.Fprintf(&b, "### %s\n\n%s.\n\n", r.underlay.name, strings.ToUpper(r.underlay.about[:1])+r.underlay.about[1:])
		if r.special != nil {
			b.WriteString(r.underlay.show(r.special))
		} else {
			b.WriteString(render(p, r))
		}
		for _, n := range r.notes {
			fmt.Fprintf(&b, "- %s\n", strings.ReplaceAll(strings.TrimSpace(n), "\n", " "))
		}
		if len(r.notes) > 0 {
			b.WriteString("\n")
		}
	}
	return b.String()
}

func renderIdlePeers(f figures) string {
	return fmt.Sprintf("%.1f MB with 2 peers, %.1f MB with %d, %.1f MB with %d: %.0f KB for each further one.\n\n",
		f["rss2"], f["rssFew"], fewPeers, f["rssAll"], allPeers, f["perPeer"])
}

// render makes one table. Its ratios are of one TCP stream.
func render(p *plan, r result) string {
	cols := slices.DeleteFunc(columns(), func(col column) bool {
		return !slices.ContainsFunc(r.contenders, func(c *contender) bool { return len(c.figures[col.figure]) > 0 })
	})
	if len(cols) == 0 {
		return "Nothing could be measured.\n\n"
	}
	var against []*contender
	for _, name := range []string{"veth", "vxlan", "wireguard-go", "nebula"} {
		if c := r.find(name); c != nil && len(c.figures["tcp1"]) > 0 {
			against = append(against, c)
		}
	}
	var rows [][]string
	head := []string{"contender"}
	for _, col := range cols {
		head = append(head, col.title)
	}
	for _, a := range against {
		head = append(head, "÷ "+a.title)
	}
	rows = append(rows, head)
	for _, c := range r.contenders {
		row := []string{c.title}
		for _, col := range cols {
			row = append(row, col.cell(c.figures[col.figure]))
		}
		for _, a := range against {
			row = append(row, ratio(c, a, "tcp1"))
		}
		rows = append(rows, row)
	}
	for _, label := range slices.Sorted(maps.Keys(p.also)) { // two builds of the product, figure by figure
		if a, b := r.find(label), r.find("weave"); a != nil && b != nil {
			row := []string{label + " ÷ weave"}
			for _, col := range cols {
				row = append(row, ratio(a, b, col.figure))
			}
			rows = append(rows, append(row, make([]string, len(against))...))
		}
	}
	return markdown(rows)
}

// markdown lays rows out as a table, numbers to the right.
func markdown(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString("|---|" + strings.Repeat("--:|", len(row)-1) + "\n")
		}
	}
	b.WriteString("\n")
	return b.String()
}

func (col column) cell(values []float64) string {
	if len(values) == 0 {
		return nothing
	}
	text := fmt.Sprintf(col.format, median(values))
	if col.spread && len(values) > 1 {
		text += fmt.Sprintf(" ("+col.format+"–"+col.format+")", slices.Min(values), slices.Max(values))
	}
	return text
}

func ratio(a, b *contender, figure string) string {
	q, ok := quotient(a, b, figure)
	if !ok {
		return nothing
	}
	return fmt.Sprintf("%.2f", q)
}

// quotient of two contenders' medians.
func quotient(a, b *contender, figure string) (float64, bool) {
	over, under := a.figures[figure], b.figures[figure]
	if len(over) == 0 || len(under) == 0 || median(under) == 0 {
		return 0, false
	}
	return median(over) / median(under), true
}

func (r *result) find(name string) *contender {
	for _, c := range r.contenders {
		if c.name == name {
			return c
		}
	}
	return nil
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
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
