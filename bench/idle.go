package main

import (
	"fmt"
	"strings"
	"time"

	"weave/netns-tests/lab"
)

const (
	furtherPeers  = 20
	settleFor     = 5 * time.Second
	idlePeersTime = 40 * time.Second
)

// idlePeers measures what a further connected peer costs in memory: the
// resident memory of daemons with one neighbour, and of the same daemons with
// twenty more, all connected with all.
func idlePeers(p *plan) (figures, error) {
	l, err := lab.New(lab.Config{Hosts: 2 + furtherPeers})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	watched := l.Hosts[:2]
	before, err := joinAndWeigh(l.Hosts[:2], watched)
	if err != nil {
		return nil, err
	}
	after, err := joinAndWeigh(l.Hosts, watched)
	if err != nil {
		return nil, err
	}
	return figures{"rss2": before, "rssAll": after, "perPeer": (after - before) * 1000 / furtherPeers}, nil
}

// joinAndWeigh launches weave where it does not run yet, waits until all are
// connected, and weighs: the mean of the watched daemons, in megabytes.
func joinAndWeigh(hosts, watched []*lab.Host) (float64, error) {
	for _, h := range hosts {
		if len(h.PIDs()) > 0 {
			continue
		}
		args := []string{"launch"}
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
	settled := time.NewTimer(settleFor)
	<-settled.C
	var sum float64
	for _, h := range watched {
		pid, err := h.DaemonPID()
		if err != nil {
			return 0, err
		}
		mb, err := rss(pid)
		if err != nil {
			return 0, err
		}
		sum += mb
	}
	return sum / float64(len(watched)), nil
}
