package main

import (
	"cmp"
	"fmt"
)

// target is one line of what weave is to reach.
type target struct {
	what     string
	underlay string
	figure   string
	atMost   bool // else at least
	factor   float64
	against  string // a contender, bestPeer, or a unit for an absolute figure
	who      string // what is to reach it; "weave" if empty
}

const bestPeer = "best peer"

func targets() []target {
	all := []target{
		{"TCP one stream", "N1500", "tcp1", false, 2.5, "wireguard-go", ""},
		{"TCP one stream", "N1500", "tcp1", false, 1.8, "nebula", ""},
		{"TCP one stream", "N1500", "tcp1", false, 0.7, "vxlan", ""},
	}
	for _, w := range []struct{ what, figure string }{{"TCP one stream", "tcp1"}, {"TCP four streams", "tcp4"}} {
		all = append(all,
			target{w.what, "V1500", w.figure, false, 3.0, "wireguard-go", ""},
			target{w.what, "V1500", w.figure, false, 2.2, "nebula", ""},
			target{w.what, "V1500", w.figure, false, 12, "tinc", ""})
	}
	all = append(all,
		target{"TCP one stream", "V9000", "tcp1", false, 1.5, "wireguard-go", ""},
		target{"TCP one stream", "N9000", "tcp1", false, 1.5, "wireguard-go", ""},
		target{"TCP at 0.1 % loss", "N1500-loss0.1", "tcp1", false, 1.5, "wireguard-go", ""},
		target{"TCP at 1 % loss", "N1500-loss1", "tcp1", false, 1.0, "wireguard-go", ""})
	for _, u := range []string{"V1500", "N1500"} {
		all = append(all,
			target{"request/response p50", u, "p50", true, 0.6, "wireguard-go", ""},
			target{"request/response p50", u, "p50", true, 1.1, "nebula", ""},
			target{"request/response p99", u, "p99", true, 0.6, "wireguard-go", ""},
			target{"request/response p99", u, "p99", true, 1.1, "nebula", ""},
			target{"UDP 64 B without loss", u, "udp64.noloss", false, 1.0, bestPeer, ""},
			target{"CPU-seconds per GB", u, "tcp1.cpu", true, 0.45, "wireguard-go", ""},
			target{"RSS idle", u, "idle", true, 30, "MB", ""},
			target{"RSS after the load", u, "after", true, 60, "MB", ""})
	}
	all = append(all,
		target{"without root, container to container", "one-user", "tcp1", false, 2, "slirp4netns", "weave-user"},
		target{"without root, published port", "one-user", "tcp1", false, 1, "slirp4netns", "weave-publish"},
		target{"without root, across hosts", "V1500", "tcp1", false, 0.8, "weave", "weave-user"},
		target{"without root, across hosts", "N1500", "tcp1", false, 0.8, "weave", "weave-user"})
	return append(all, target{"each further idle peer", "idlepeers", "perPeer", true, 40, "KB", ""})
}

// renderTargets holds against the targets what was measured of them.
func renderTargets(results []result) string {
	rows := [][]string{{"target", "underlay", "wanted", "measured", "reached"}}
	for _, t := range targets() {
		for _, r := range results {
			if r.underlay.name != t.underlay {
				continue
			}
			got, against, ok := t.measured(r)
			if !ok {
				continue
			}
			sign, reached := "≥", "no"
			if t.atMost {
				sign = "≤"
			}
			if t.atMost == (got <= t.factor) || got == t.factor {
				reached = "yes"
			}
			rows = append(rows, []string{t.what, t.underlay, fmt.Sprintf("%s %g %s", sign, t.factor, against), fmt.Sprintf("%.2f", got), reached})
		}
	}
	if len(rows) == 1 {
		return ""
	}
	return "### Targets\n\nRatios of medians within this run.\n\n" + markdown(rows)
}

// measured is what the result says of the target, and against what.
func (t target) measured(r result) (got float64, against string, ok bool) {
	if r.special != nil {
		got, ok = r.special[t.figure]
		return got, t.against, ok
	}
	w := r.find(cmp.Or(t.who, "weave"))
	if w == nil || len(w.figures[t.figure]) == 0 {
		return 0, "", false
	}
	if t.against == "MB" {
		return median(w.figures[t.figure]), t.against, true
	}
	other := r.find(t.against)
	against = "×"
	if t.against == bestPeer {
		other = r.best(t.figure)
		against = "× the best peer,"
	}
	if other == nil {
		return 0, "", false
	}
	got, ok = quotient(w, other, t.figure)
	return got, against + " " + other.title, ok
}

// best is the peer with the highest figure.
func (r *result) best(figure string) *contender {
	var best *contender
	for _, c := range r.contenders {
		if !c.peer || len(c.figures[figure]) == 0 {
			continue
		}
		if best == nil || median(c.figures[figure]) > median(best.figures[figure]) {
			best = c
		}
	}
	return best
}
