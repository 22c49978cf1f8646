//go:build scale

package netnstests

import (
	"context"
	"encoding/json"
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
	cs, ips := thousand(t, l.Hosts, count)
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
	var with, without []float64
	for range 7 {
		with = append(with, stream(t, cs[0], cs[1], ips[1]))
		run(t, one, "policy", "clear")
		eventually(t, soon, func() error {
			if r := two.Weave("policy", "show"); r.Stdout != "" {
				return fmt.Errorf("%v", r)
			}
			return nil
		})
		without = append(without, stream(t, cs[0], cs[1], ips[1]))
		if r := one.Policy(policy(0, 0)); r.RC != 0 {
			t.Fatal(r)
		}
	}
	var ratios []float64
	for i := range with {
		ratios = append(ratios, with[i]/without[i])
	}
	slices.Sort(ratios)
	t.Logf("one TCP stream between hosts, Gb/s: with %.2f, without %.2f, ratios %.3f", with, without, ratios)
	if ratios[len(ratios)/2] < 0.85 {
		t.Errorf("with a policy there is %.2f of the throughput", ratios[len(ratios)/2])
	}
}

// thousand attaches containers c0, c1, … to hosts in turn, several at a time.
func thousand(t *testing.T, hosts []*lab.Host, count int) ([]*lab.Container, []string) {
	t.Helper()
	cs, ips := make([]*lab.Container, count), make([]string, count)
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
				r := hosts[i%len(hosts)].Weave("attach", "--name", fmt.Sprint("c", i), cs[i].Name)
				ips[i], _, _ = strings.Cut(strings.TrimSpace(r.Stdout), "/")
				if r.RC != 0 {
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
	return cs, ips
}

// stream measures one TCP connection, in Gb/s.
func stream(t *testing.T, from, to *lab.Container, ip string) float64 {
	t.Helper()
	served := make(chan lab.Result, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { served <- to.Run(ctx, nil, "", "iperf3", "-s", "-p", "5001") }()
	var report struct {
		End struct {
			Received struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	eventually(t, soon, func() error {
		r := from.Run(t.Context(), nil, "", "iperf3", "-c", ip, "-p", "5001", "-O", "1", "-t", "3", "-J", "--connect-timeout", "2000") // the first second is not counted: hosts still write the policy
		if r.RC != 0 {
			return fmt.Errorf("%v", r)
		}
		if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil || report.End.Received.Bits == 0 {
			return fmt.Errorf("iperf3 measured nothing: %v, %v", err, r)
		}
		return nil
	})
	cancel()
	<-served
	t.Logf("%.2f Gb/s", report.End.Received.Bits/1e9)
	return report.End.Received.Bits / 1e9
}

func median(list []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2].Round(time.Millisecond)
}
