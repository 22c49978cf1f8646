package main

import (
	"fmt"
	"io"
	"strings"
)

// key names a test; Test is empty for the package itself.
type key struct{ Package, Test string }

// summary gathers events into the three numbers.
type summary struct {
	out    io.Writer
	strict string
	output map[key]*strings.Builder // of tests that have not ended
	builds map[string]*strings.Builder
	parent map[key]bool // has subtests
	failed map[key]bool // a test or one below it
	skips  []string
	counts struct{ passed, failed, skipped int }
}

func newSummary(out io.Writer, strict string) *summary {
	return &summary{
		out: out, strict: strict,
		output: map[key]*strings.Builder{}, builds: map[string]*strings.Builder{},
		parent: map[key]bool{}, failed: map[key]bool{},
	}
}

func (s *summary) add(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		text(s.builds, e.ImportPath).WriteString(e.Output)
	case "run":
		if i := strings.LastIndexByte(e.Test, '/'); i >= 0 {
			s.parent[key{e.Package, e.Test[:i]}] = true
		}
	case "output":
		text(s.output, k).WriteString(e.Output)
	case "pass", "fail", "skip":
		s.end(k, e)
		delete(s.output, k)
	}
}

// text returns the builder for k, making it when there is none.
func text[K comparable](m map[K]*strings.Builder, k K) *strings.Builder {
	if m[k] == nil {
		m[k] = &strings.Builder{}
	}
	return m[k]
}

// end counts a test or package that has ended.
func (s *summary) end(k key, e event) {
	switch {
	case k.Test == "":
		s.endPackage(k, e)
	case e.Action == "fail":
		s.fail(k, e)
	case s.parent[k]: // counted as its subtests
	case e.Action == "pass":
		s.counts.passed++
	case s.strict != "" && within(k.Package, s.strict):
		fmt.Fprintf(s.out, "a skipped test is a failure here:\n")
		s.fail(k, e)
	default:
		s.counts.skipped++
		s.skips = append(s.skips, fmt.Sprintf("%s %s: %s", k.Package, k.Test, reason(text(s.output, k).String())))
	}
}

func (s *summary) fail(k key, e event) {
	below := s.failed[k]
	for name := k.Test; ; {
		s.failed[key{k.Package, name}] = true
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			break
		}
		name = name[:i]
	}
	s.failed[key{k.Package, ""}] = true
	if below {
		return // counted and shown already
	}
	s.counts.failed++
	fmt.Fprintf(s.out, "FAIL  %s %s (%.2fs)\n%s", k.Package, k.Test, e.Elapsed, indent(text(s.output, k).String()))
}

func (s *summary) endPackage(k key, e event) {
	switch {
	case e.Action == "pass":
		fmt.Fprintf(s.out, "ok    %s (%.1fs)\n", k.Package, e.Elapsed)
	case e.Action == "fail" && !s.failed[k]:
		s.counts.failed++
		fmt.Fprintf(s.out, "FAIL  %s\n", k.Package)
		if b := s.builds[e.FailedBuild]; b != nil {
			fmt.Fprint(s.out, indent(b.String()))
		}
		fmt.Fprint(s.out, indent(text(s.output, k).String()))
		s.unfinished(k.Package)
	case e.Action == "fail":
		fmt.Fprintf(s.out, "FAIL  %s (%.1fs)\n", k.Package, e.Elapsed)
	}
}

// unfinished shows what tests said that were cut off, as by a panic or the
// time limit.
func (s *summary) unfinished(pkg string) {
	for k, b := range s.output {
		if k.Package == pkg && k.Test != "" {
			fmt.Fprintf(s.out, "      unfinished: %s\n%s", k.Test, indent(b.String()))
		}
	}
}

// finish prints the lists and the closing line, and tells whether all is well.
func (s *summary) finish() bool {
	if len(s.skips) > 0 {
		fmt.Fprintln(s.out, "\nSkipped:")
		for _, line := range s.skips {
			fmt.Fprintln(s.out, "  "+line)
		}
	}
	if s.counts.passed+s.counts.failed+s.counts.skipped == 0 {
		fmt.Fprintln(s.out, "no test ran")
		s.counts.failed++
	}
	fmt.Fprintf(s.out, "\n%d passed, %d failed, %d skipped\n", s.counts.passed, s.counts.failed, s.counts.skipped)
	return s.counts.failed == 0
}

// within tells whether pkg is one of the roots, separated by commas, or below it.
func within(pkg, roots string) bool {
	for root := range strings.SplitSeq(roots, ",") {
		if pkg == root || strings.HasPrefix(pkg, root+"/") {
			return true
		}
	}
	return false
}

// reason picks what a skipped test said out of its output.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}

func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "=== ") {
			b.WriteString("      " + strings.TrimRight(line, "\n") + "\n")
		}
	}
	return b.String()
}
