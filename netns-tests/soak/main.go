// Command soak troubles a network for a long time and says how it took it:
// hosts die, are cut off, parted, starved of UDP and of large packets, change
// their addresses and lose frames; after each trouble every container must reach
// every other again. It changes nothing outside its own namespaces.
//
//	soak [-for 10m] [-hosts 6] [-seed N] [-report FILE]
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"weave/netns-tests/lab"
)

func main() { os.Exit(lab.Main(run)) }

func run() int {
	length := flag.Duration("for", 10*time.Minute, "how long")
	hosts := flag.Int("hosts", 6, "how many hosts, at least 4")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of what happens when")
	report := flag.String("report", "", "also append the summary to this file")
	flag.Parse()
	s := &soak{
		began: time.Now(), length: *length, seed: *seed, out: os.Stdout,
		rng: rand.New(rand.NewPCG(*seed, 1)), took: map[string][]time.Duration{},
	}
	err := s.build(max(*hosts, 4))
	if err == nil {
		err = s.play()
	}
	s.summary(os.Stdout)
	if *report != "" {
		err = errors.Join(err, s.write(*report))
	}
	if s.lab != nil {
		err = errors.Join(err, s.lab.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		return 1
	}
	return 0
}

// soak is one run.
type soak struct {
	began  time.Time
	length time.Duration
	seed   uint64
	out    io.Writer
	rng    *rand.Rand
	lab    *lab.Lab
	conts  []*lab.Container
	ips    []string // of the containers

	took   map[string][]time.Duration // until all was well again, by trouble
	faults []string
	moved  int    // hosts readdressed
	memory [2]int // of the largest daemon, KB: at first, at the end
}

func (s *soak) build(n int) error {
	var err error
	if s.lab, err = lab.New(lab.Config{Hosts: n}); err != nil {
		return err
	}
	for i, h := range s.lab.Hosts {
		args := []string{"launch", "--password", "soak"}
		if i > 0 {
			args = append(args, s.lab.Hosts[0].IP, s.lab.Hosts[i-1].IP)
		}
		if r := h.Weave(args...); r.RC != 0 || r.Err != nil {
			return fmt.Errorf("host%d: %v", h.Index, r)
		}
		c, err := h.NewContainer()
		if err != nil {
			return err
		}
		ip := fmt.Sprintf("10.2.1.%d", h.Index)
		if r := h.Weave("attach", ip+"/24", c.Name); r.RC != 0 || r.Err != nil {
			return fmt.Errorf("host%d: %v", h.Index, r)
		}
		s.conts, s.ips = append(s.conts, c), append(s.ips, ip)
	}
	return nil
}

// play makes trouble after trouble until the time is over.
func (s *soak) play() error {
	if err := s.allWell(time.Minute); err != nil {
		return fmt.Errorf("before any trouble: %w", err)
	}
	s.memory[0] = s.largest()
	for time.Since(s.began) < s.length {
		t := troubles[s.rng.IntN(len(troubles))]
		h := s.lab.Hosts[s.rng.IntN(len(s.lab.Hosts))]
		fmt.Fprintf(s.out, "[%6.1fs] %s, host%d\n", time.Since(s.began).Seconds(), t.name, h.Index)
		if err := t.begin(s, h); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		s.during(t.lasts)
		if err := t.end(s, h); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		over := time.Now()
		if err := s.allWell(2 * time.Minute); err != nil {
			s.faults = append(s.faults, fmt.Sprintf("after %s at %.0fs: %v", t.name, time.Since(s.began).Seconds(), err))
			fmt.Fprintln(s.out, "         ", s.faults[len(s.faults)-1])
			continue
		}
		s.took[t.name] = append(s.took[t.name], time.Since(over))
	}
	s.memory[1] = s.largest()
	for _, h := range s.lab.Hosts {
		s.faults = append(s.faults, h.Complaints()...)
	}
	if len(s.faults) > 0 {
		return fmt.Errorf("%d faults", len(s.faults))
	}
	return nil
}

// during lets a trouble last, with traffic that may fail.
func (s *soak) during(d time.Duration) {
	for until := time.Now().Add(d); time.Now().Before(until); {
		a, b := s.rng.IntN(len(s.conts)), s.rng.IntN(len(s.conts))
		_, _ = s.conts[a].Ping(s.ips[b], 1000, 100*time.Millisecond)
	}
}

// allWell waits until every container reaches every other, with small packets
// and with the largest.
func (s *soak) allWell(limit time.Duration) error {
	for _, size := range []int{56, 1348} {
		for i, from := range s.conts {
			for k, to := range s.ips {
				if i == k {
					continue
				}
				err := lab.Eventually(limit, func() error {
					_, err := from.Ping(to, size, 300*time.Millisecond)
					return err
				})
				if err != nil {
					return fmt.Errorf("host%d does not reach host%d: %w", i+1, k+1, err)
				}
			}
		}
	}
	return nil
}
