package main

import (
	"strings"
	"testing"
)

// line makes one event as go test -json writes it.
func line(action, pkg, test, output string) string {
	return `{"Action":"` + action + `","Package":"` + pkg + `","Test":"` + test + `","Output":"` + output + `"}` + "\n"
}

// example is a run of go test and what must be said of it.
type example struct {
	strict string
	in     string
	want   []string // in the output
	last   string
	ok     bool
}

func TestSummary(t *testing.T) {
	const pkg = "weave/x"
	for name, c := range map[string]example{
		"passes": {
			in:   line("run", pkg, "TestA", "") + line("pass", pkg, "TestA", "") + line("pass", pkg, "", ""),
			last: "1 passed, 0 failed, 0 skipped", ok: true,
		},
		"subtests stand for their parent": {
			in: line("run", pkg, "TestA", "") + line("run", pkg, "TestA/one", "") + line("run", pkg, "TestA/two", "") +
				line("pass", pkg, "TestA/one", "") + line("output", pkg, "TestA/two", "broken") + line("fail", pkg, "TestA/two", "") +
				line("fail", pkg, "TestA", "") + line("fail", pkg, "", ""),
			want: []string{"FAIL  weave/x TestA/two", "      broken"},
			last: "1 passed, 1 failed, 0 skipped",
		},
		"a skip shows its reason": {
			in:   line("run", pkg, "TestA", "") + line("output", pkg, "TestA", "    a_test.go:5: no tun\\n") + line("skip", pkg, "TestA", ""),
			want: []string{"weave/x TestA: a_test.go:5: no tun"},
			last: "0 passed, 0 failed, 1 skipped", ok: true,
		},
		"a skip where none is allowed": {
			strict: "weave/other,weave/x",
			in:     line("run", pkg, "TestA", "") + line("skip", pkg, "TestA", "") + line("pass", pkg, "", ""),
			last:   "0 passed, 1 failed, 0 skipped",
		},
		"a package that does not compile": {
			in: `{"ImportPath":"weave/x [weave/x.test]","Action":"build-output","Output":"x.go:1: no\n"}` + "\n" +
				`{"Action":"fail","Package":"weave/x","FailedBuild":"weave/x [weave/x.test]"}` + "\n",
			want: []string{"x.go:1: no"},
			last: "0 passed, 1 failed, 0 skipped",
		},
		"a package that ran out of time": {
			in: line("run", pkg, "TestA", "") + line("output", pkg, "TestA", "waiting\\n") +
				line("output", pkg, "", "panic: test timed out\\n") + line("fail", pkg, "", ""),
			want: []string{"panic: test timed out", "unfinished: TestA", "waiting"},
			last: "0 passed, 1 failed, 0 skipped",
		},
		"nothing": {last: "0 passed, 1 failed, 0 skipped"},
	} {
		t.Run(name, c.check)
	}
}

func (c example) check(t *testing.T) {
	var out strings.Builder
	s := newSummary(&out, c.strict)
	if err := read(strings.NewReader(c.in), s); err != nil {
		t.Fatal(err)
	}
	if ok := s.finish(); ok != c.ok {
		t.Errorf("ok = %v", ok)
	}
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if got := lines[len(lines)-1]; got != c.last {
		t.Errorf("last line %q, want %q", got, c.last)
	}
	for _, w := range c.want {
		if !strings.Contains(out.String(), w) {
			t.Errorf("%q is missing in:\n%s", w, out.String())
		}
	}
}
