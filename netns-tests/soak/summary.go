package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// summary tells what happened and how long each trouble was felt after its end.
func (s *soak) summary(w io.Writer) {
	total := 0
	for _, all := range s.took {
		total += len(all)
	}
	fmt.Fprintf(w, "\n%d troubles in %v, seed %d; %d not survived. Until everybody reached everybody again:\n\n",
		total+len(s.faults), time.Since(s.began).Round(time.Second), s.seed, len(s.faults))
	fmt.Fprintf(w, "| trouble | times | median | longest |\n|---|--:|--:|--:|\n")
	for _, name := range slices.Sorted(maps.Keys(s.took)) {
		all := slices.Sorted(slices.Values(s.took[name]))
		fmt.Fprintf(w, "| %s | %d | %.1f s | %.1f s |\n", name, len(all), all[len(all)/2].Seconds(), all[len(all)-1].Seconds())
	}
	fmt.Fprintf(w, "\nLargest daemon: %d MB at first, %d MB at the end.\n", s.memory[0]>>10, s.memory[1]>>10)
	for _, f := range s.faults {
		fmt.Fprintln(w, "FAULT:", f)
	}
}

// write appends the summary to a file.
func (s *soak) write(path string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	s.summary(f)
	return f.Close()
}

// largest is the resident memory of the largest daemon, in KB.
func (s *soak) largest() int {
	most := 0
	for _, h := range s.lab.Hosts {
		pid, err := h.DaemonPID()
		if err != nil {
			continue
		}
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				var kb int
				if _, err := fmt.Sscan(rest, &kb); err == nil {
					most = max(most, kb)
				}
			}
		}
	}
	return most
}
