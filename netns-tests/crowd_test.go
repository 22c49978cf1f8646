package netnstests

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// crowd is how many daemons run at once: more than the 32 of a network in which everybody is connected with everybody.
const crowd = 36

// Many daemons find each other from one address. Each keeps some connections only; sessions come when they are
// needed, and what is for everybody reaches everybody once:
//
//	host1 … host36, each on its own link to one router; containers on every fifth
func TestCrowd(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: crowd, Routed: true})
	began := time.Now()
	launchAll(t, l.Hosts)
	t.Logf("launched after %v", time.Since(began).Round(time.Millisecond))
	for _, h := range l.Hosts {
		knows(t, h, crowd)
	}
	t.Logf("everybody knows everybody after %v", time.Since(began).Round(time.Millisecond))
	var cs []*lab.Container
	var boxes []*lab.Inbox
	for i := 0; i < crowd; i += 5 {
		c := container(t, l.Hosts[i], fmt.Sprintf("10.2.1.%d/24", i+1))
		in, err := c.Listen(":9")
		must(t, err)
		defer in.Close()
		cs, boxes = append(cs, c), append(boxes, in)
	}
	eventually(t, settle, func() error { return degrees(t, l.Hosts) })
	for i := range cs {
		if i > 0 {
			pings(t, cs[0], fmt.Sprintf("10.2.1.%d", 5*i+1), settle)
		}
	}
	// The kernel carries what neighbours send each other, but for what is for everybody.
	for _, h := range []*lab.Host{l.Hosts[0], l.Hosts[crowd-1]} {
		shows(t, h, 2*settle, "established", " fastdp ")
	}
	for n := range 5 {
		text := fmt.Sprintf("to all, %d", n)
		must(t, cs[0].Send("ethwe", "10.2.1.255:9", text))
		for i, in := range boxes[1:] {
			if _, err := in.Expect(text, soon); err != nil {
				t.Fatalf("host%d: %v", 5*i+6, err)
			}
		}
	}
	for i, in := range boxes[1:] {
		if _, err := in.Expect("", 100*time.Millisecond); err == nil {
			t.Errorf("host%d got something twice", 5*i+6)
		}
	}
	done, err := lab.Transfer(cs[1].NS, cs[7].NS, "10.2.1.36:5001", 8<<20, time.Minute)
	must(t, err)
	t.Logf("transfer between two of them: %.2f Gb/s", done.Gbps())
}

// launchAll launches several at a time; all but the first know the first.
func launchAll(t *testing.T, hosts []*lab.Host) {
	t.Helper()
	launch(t, hosts[0])
	errs := make([]error, len(hosts))
	var wg sync.WaitGroup
	turn := make(chan struct{}, 4)
	for i, h := range hosts[1:] {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			if r := h.Weave("launch", hosts[0].IP); r.RC != 0 || r.Err != nil {
				errs[i] = fmt.Errorf("host%d: %v", h.Index, r)
			}
		})
	}
	wg.Wait()
	must(t, errs...)
}

// knows waits until a host knows n peers, itself included.
func knows(t *testing.T, h *lab.Host, n int) {
	t.Helper()
	eventually(t, 2*settle, func() error {
		if got := strings.TrimSpace(run(t, h, "report", "-f", "{{len .Router.Peers}}")); got != strconv.Itoa(n) {
			return fmt.Errorf("host%d knows %s peers of %d", h.Index, got, n)
		}
		return nil
	})
}

// degrees is an error while a host has too few connections for the graph to hold, or more than a sparse one has.
func degrees(t *testing.T, hosts []*lab.Host) error {
	t.Helper()
	var errs []error
	total, most := 0, 0
	for _, h := range hosts {
		n, _ := established(h)
		total, most = total+n, max(most, n)
		if n < 4 || n > 2*crowd/3 {
			errs = append(errs, fmt.Errorf("host%d has %d connections", h.Index, n))
		}
	}
	if len(errs) == 0 {
		t.Logf("connections: %.1f in the mean, %d at most", float64(total)/float64(len(hosts)), most)
	}
	return errors.Join(errs...)
}
