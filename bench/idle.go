package main

import (
	"fmt"
	"strings"
	"time"

	"weave/netns-tests/lab"
)

const (
	fewPeers      = 12
	allPeers      = 32 // the most that keep connections with all
	settleFor     = 8 * time.Second
	idlePeersTime = 120 * time.Second
	// Daemons are idle when they take no longer a fifth less processor time than in the window before.
	settleWindow  = 10 * time.Second
	settleWindows = 18
)

// idlePeers measures what a further connected peer costs in memory, through user space: the
// anonymous resident memory of two daemons that are alone, of twelve, and of the
// same twelve among thirty-two, all connected with all. What a further one costs is told
// from the latter two: the first few make the daemon touch code, and the runtime
// make tables, that all others share. One daemon's memory goes up and down by 0.2 MB.
func idlePeers(p *plan) (figures, error) {
	l, err := lab.New(lab.Config{Hosts: allPeers})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	got := figures{}
	for _, step := range []struct {
		name string
		n    int
	}{{"rss2", 2}, {"rssFew", fewPeers}, {"rssAll", allPeers}} {
		if got[step.name], err = joinAndWeigh(l.Hosts[:step.n], l.Hosts[:min(step.n, fewPeers)]); err != nil {
			return nil, err
		}
	}
	got["perPeer"] = (got["rssAll"] - got["rssFew"]) * 1000 / (allPeers - fewPeers)
	return got, nil
}

// joinAndWeigh launches weave where it does not run yet, waits until all are
// connected and idle, and weighs: the mean of the watched daemons, in megabytes.
func joinAndWeigh(hosts, watched []*lab.Host) (float64, error) {
	for _, h := range hosts {
		if len(h.PIDs()) > 0 {
			continue
		}
		args := []string{"launch", "--no-fastdp"}
		if h != hosts[0] {
			args = append(args, hosts[0].IP)
		}
		if r := h.Weave(args...); r.RC != 0 || r.Err != nil {
			return 0, fmt.Errorf("%v", r)
		}
	}
	for _, h := range watched {
		err := lab.Eventually(60*time.Second, func() error {
			n := strings.Count(h.Weave("status", "connections").Stdout, " established ")
			if n < len(hosts)-1 {
				return fmt.Errorf("%s has %d of %d connections", h.Name, n, len(hosts)-1)
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	if err := settle(hosts); err != nil {
		return 0, err
	}
	var sum float64
	for _, h := range watched {
		pid, err := h.DaemonPID()
		if err != nil {
			return 0, err
		}
		mb, err := anonymous(pid)
		if err != nil {
			return 0, err
		}
		sum += mb
	}
	return sum / float64(len(watched)), nil
}

// settle waits until the hosts' daemons have done what a change made them do.
func settle(hosts []*lab.Host) error {
	before, err := cpuOf(hosts)
	if err != nil {
		return err
	}
	last := time.Duration(0)
	for range settleWindows {
		<-time.After(settleWindow)
		now, err := cpuOf(hosts)
		if err != nil {
			return err
		}
		if took := now - before; last > 0 && took*5 > last*4 {
			return nil
		}
		last, before = now-before, now
	}
	return nil
}
