//go:build scale

package netnstests

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// A thousand containers, a thousand rules. It takes minutes and the machine for itself, and is built with the tag scale only: WEAVE_SCALE=1000. docs/performance.md has its
// figures, and the limits are those of issue 10, with room for a busy machine.
func TestPolicyOfThousands(t *testing.T) {
	count, err := strconv.Atoi(os.Getenv("WEAVE_SCALE"))
	if err != nil || count < 4 {
		t.Fatal("say how many: WEAVE_SCALE=1000")
	}
	l := mesh(t, lab.Config{Hosts: 2}, "--ipalloc-range", "10.40.0.0/16")
	one, two := l.Hosts[0], l.Hosts[1]
	began := time.Now()
	thousand(t, l.Hosts, count)
	t.Logf("%d containers after %v", count, time.Since(began).Round(time.Second))
	eventually(t, time.Minute, func() error {
		var seen []string
		for _, h := range l.Hosts {
			seen = append(seen, strings.TrimSpace(h.Weave("status", "dns").Stdout))
		}
		if n := strings.Count(seen[0], "\n"); n < count {
			return fmt.Errorf("%d names are known", n)
		}
		return nil
	})
	policy := func(all, other int) string {
		var b strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&b, "group g%d name c%d\nallow g%d -> g%d tcp %d\n", i, i%count, i, (7*i+1)%1000, 1000+i+all)
			if i == 77*other%1000 {
				fmt.Fprintf(&b, "allow g%d -> g%d udp %d\n", i, i%5, 53+other)
			}
		}
		return b.String() + "group busy name c0,c1,c2,c3\nallow busy -> busy tcp 5000-9000\nallow busy -> busy icmp\ndefault deny\n"
	}
	measure := func(what string, text func(i int) string, limit time.Duration) {
		var set, far, joined []time.Duration
		for i := range 7 {
			text := text(i)
			r := one.Policy(text)
			if r.RC != 0 || r.Stderr != "" {
				t.Fatal(r)
			}
			set = append(set, r.Took)
			began := time.Now()
			eventually(t, soon, func() error {
				if two.Weave("policy", "show").Stdout != text {
					return fmt.Errorf("the other host has another")
				}
				return nil
			})
			far = append(far, time.Since(began))
			c, err := one.NewContainer()
			must(t, err)
			r = one.Weave("attach", "--name", "late", c.Name)
			if r.RC != 0 {
				t.Fatal(r)
			}
			joined = append(joined, r.Took)
			must(t, c.Close())
		}
		t.Logf("%s: policy set: median %v of %v; on the other host after %v more; attach: median %v", what, median(set), set, median(far), median(joined))
		if median(set) > limit {
			t.Errorf("%s: a change of the policy takes %v", what, median(set))
		}
	}
	measure("every rule changes", func(i int) string { return policy(i, 0) }, 600*time.Millisecond)
	measure("one rule changes", func(i int) string { return policy(7, i) }, 400*time.Millisecond)
}

// thousand attaches containers c0, c1, … to hosts in turn, several at a time.
func thousand(t *testing.T, hosts []*lab.Host, count int) {
	t.Helper()
	cs := make([]*lab.Container, count)
	for i := range cs {
		var err error
		cs[i], err = hosts[i%len(hosts)].NewContainer()
		must(t, err)
	}
	var work sync.WaitGroup
	next := make(chan int)
	for range 4 {
		work.Go(func() {
			for i := range next {
				if r := hosts[i%len(hosts)].Weave("attach", "--name", fmt.Sprint("c", i), cs[i].Name); r.RC != 0 {
					t.Error(r)
				}
			}
		})
	}
	for i := range cs {
		next <- i
	}
	close(next)
	work.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func median(list []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2].Round(time.Millisecond)
}
