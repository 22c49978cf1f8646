// Command testsummary reads the output of `go test -json` and prints what a
// reader wants to know: each failure with what it said, each skipped test with
// its reason, and at the end one line "N passed, N failed, N skipped". Its
// exit code is 1 if anything failed.
//
// A test with subtests counts as its subtests, unless it failed on its own. A
// package that failed without a failing test (it did not compile, it ran out
// of time) counts as one failure.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	strict := flag.String("no-skips", "", "a skipped test in one of these packages (comma-separated) or below it counts as failed")
	flag.Parse()
	s := newSummary(os.Stdout, *strict)
	if err := read(os.Stdin, s); err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
	}
	if !s.finish() {
		os.Exit(1)
	}
}

// event is one line of go test -json (cmd/test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build output
	Test        string
	Output      string
	FailedBuild string
	Elapsed     float64
}

// read hands every event to s. Lines that are none, as a linker may write, are
// shown as they are.
func read(r io.Reader, s *summary) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				s.add(e)
			} else {
				_, _ = s.out.Write(line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
