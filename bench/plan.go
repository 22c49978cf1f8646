package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"weave/netns-tests/lab"
)

// plan is what one run of the bench measures.
type plan struct {
	options
	entries   []entry
	underlays []underlay
	missing   []string // contenders left out, and how to have them
}

// named is what a flag can choose.
type named interface{ key() string }

func names[T named](all []T) string {
	var keys []string
	for _, v := range all {
		keys = append(keys, v.key())
	}
	return strings.Join(keys, ",")
}

// choose picks what a flag lists, in the order of all; nothing listed is all.
func choose[T named](what, list string, all []T) ([]T, error) {
	if list == "" || list == "all" {
		return all, nil
	}
	wanted := strings.Split(list, ",")
	for _, w := range wanted {
		if !slices.ContainsFunc(all, func(v T) bool { return v.key() == w }) {
			return nil, fmt.Errorf("no %s %q; there are %s", what, w, names(all))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(v T) bool { return !slices.Contains(wanted, v.key()) }), nil
}

func newPlan(o options) (*plan, error) {
	p := &plan{options: o}
	if o.rounds < 1 || o.seconds < 1 {
		return nil, fmt.Errorf("at least one round and one second, not %d and %d", o.rounds, o.seconds)
	}
	var err error
	if p.underlays, err = choose("underlay", o.underlays, underlays()); err != nil {
		return nil, err
	}
	if o.underlays == "" || o.underlays == everything {
		p.underlays = slices.DeleteFunc(p.underlays, func(u underlay) bool { return u.asked })
	}
	if _, err = choose("work", o.works, works()); err != nil {
		return nil, err
	}
	all, err := choose("contender", o.contenders, entries(o.also))
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if e.asked && (o.contenders == "" || o.contenders == "all") {
			continue
		}
		if lacks := e.lacks(o.programs); lacks != "" {
			p.missing = append(p.missing, fmt.Sprintf("%s: no program %s; %s", e.name, lacks, e.hint))
			continue
		}
		p.entries = append(p.entries, e)
	}
	return p, nil
}

// worksFor are the works asked for, or those an underlay is there for.
func (p *plan) worksFor(u underlay) []work {
	list := p.works
	if list == "" {
		list = u.works
	}
	chosen, _ := choose("work", list, works()) // both lists are known to be good
	return chosen
}

// joinersFor are the contenders that can do something with an underlay.
func (p *plan) joinersFor(u underlay) []entry {
	return slices.DeleteFunc(slices.Clone(p.entries), func(e entry) bool { return u.join(e) == nil })
}

const setUpTime = 1500 * time.Millisecond // of one contender, roughly

// duration is how long the plan is going to take, roughly.
func (p *plan) duration() time.Duration {
	var sum time.Duration
	for _, u := range p.underlays {
		if u.special != nil {
			sum += u.takes
			continue
		}
		n := time.Duration(len(p.joinersFor(u)))
		sum += n * setUpTime
		for _, w := range p.worksFor(u) {
			sum += n * time.Duration(p.rounds) * w.takes(p.options)
		}
	}
	return sum
}

func (p *plan) String() string {
	return fmt.Sprintf("%s over %s, %d rounds, %d s per TCP measurement", names(p.entries), names(p.underlays), p.rounds, p.seconds)
}

// result is what was measured over one underlay.
type result struct {
	underlay   underlay
	contenders []*contender
	notes      []string
	special    figures // of an underlay that measures something of its own
}

// measure takes all contenders through all works over one underlay.
func (p *plan) measure(u underlay, m *meter) result {
	r := result{underlay: u}
	if u.special != nil {
		var err error
		if r.special, err = u.special(p); err != nil {
			r.note("%v", err)
		}
		return r
	}
	defer func() {
		for _, c := range r.contenders {
			c.close()
		}
	}()
	p.setUp(u, m, &r)
	for round := range p.rounds {
		for _, w := range p.worksFor(u) {
			for _, c := range rotated(r.contenders, round) {
				p.turn(&r, round, w, c, m)
			}
		}
	}
	for _, c := range r.contenders {
		c.remember("after")
		if n := c.fragments(); n > 0 {
			r.note("%s had the kernel fragment %d packets: its MTU does not fit", c.title, n)
		}
	}
	return r
}

// rotated begins with another one each time: whoever comes after the heaviest
// finds the machine busy.
func rotated[T any](all []T, by int) []T {
	if len(all) == 0 {
		return nil
	}
	by %= len(all)
	return slices.Concat(all[by:], all[:by])
}

// setUp builds a network for each contender and waits until it carries.
func (p *plan) setUp(u underlay, m *meter, r *result) {
	var began []*contender
	for _, e := range p.joinersFor(u) {
		c, err := newContender(e, u, p.programs, m)
		if err == nil {
			err = u.join(e)(c)
		}
		if err != nil {
			r.note("%s could not be set up: %v%s", e.title, err, c.logs())
			c.close()
			continue
		}
		began = append(began, c)
	}
	for _, c := range began {
		if err := lab.Eventually(20*time.Second, c.reaches); err != nil {
			r.note("%s does not carry anything: %v%s", c.title, err, c.logs())
			c.close()
			continue
		}
		r.contenders = append(r.contenders, c)
		if err := c.reachesInFull(); err != nil {
			r.note("%s does not carry full frames: %v", c.title, err)
		}
	}
	for _, c := range r.contenders {
		c.remember("idle")
	}
}

// turn lets one contender do one work once. One that failed twice running is
// not asked again: it would only hold up the others.
func (p *plan) turn(r *result, round int, w work, c *contender, m *meter) {
	const enough = 2
	if c.failed[w.name] >= enough {
		return
	}
	began := time.Now()
	got, err := w.do(c, p.options, m)
	if err != nil {
		c.failed[w.name]++
		r.note("%s, %s, round %d: %v", c.title, w.name, round+1, err)
		return
	}
	c.failed[w.name] = 0
	for name, v := range got {
		c.figures[name] = append(c.figures[name], v)
	}
	fmt.Fprintf(os.Stderr, "%s round %d of %d, %-14s %-9s %v (%.1f s)\n",
		r.underlay.name, round+1, p.rounds, c.name, w.name, got, time.Since(began).Seconds())
}

func (r *result) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.notes = append(r.notes, text)
	fmt.Fprintln(os.Stderr, r.underlay.name+":", text)
}
