//go:build scale

package netnstests

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"weave/netns-tests/lab"
)

// ends are two containers on two hosts, and who sets their policy.
type ends struct {
	ip         string
	set        func(text string) lab.Result
	weave      [2]func(args ...string) lab.Result
	serve, ask func(args ...string) lab.Result
}

// What a policy of a thousand rules costs a TCP stream: with it and without in turn, so many rounds, on the kernel path, on the user-space path and without root.
// It prints medians of ratios for docs/performance.md. The machine should have nothing else to do: WEAVE_ROUNDS=7.
func TestPolicyThroughput(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("WEAVE_ROUNDS"))
	if err != nil || rounds < 1 {
		t.Fatal("say how many: WEAVE_ROUNDS=7")
	}
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "allow 10.9.%d.%d -> 10.2.1.0/24 tcp %d\n", i/250, i%250, 2000+i)
	}
	text := b.String() + "allow 10.2.1.0/24 -> 10.2.1.0/24 tcp 5001\ndefault deny\n"
	for _, kind := range []string{"kernel path", "user-space path", "without root"} {
		t.Run(kind, func(t *testing.T) {
			e := policyEnds(t, kind)
			var with, without, ratios []float64
			for range rounds {
				policySet(t, e, text)
				with = append(with, e.stream(t))
				policySet(t, e, "")
				without = append(without, e.stream(t))
				ratios = append(ratios, with[len(with)-1]/without[len(without)-1])
			}
			for _, list := range [][]float64{with, without, ratios} {
				slices.Sort(list)
			}
			t.Logf("Gb/s with %.2f, without %.2f; ratios %.3f, median %.3f", with, without, ratios, ratios[len(ratios)/2])
			if math.IsNaN(ratios[0]) || ratios[0] == 0 {
				t.Error("nothing passed")
			}
		})
	}
}

func policyEnds(t *testing.T, kind string) ends {
	t.Helper()
	if kind == "without root" {
		l := newLab(t, lab.Config{Hosts: 2})
		one := user(t, l.Hosts[0])
		two := user(t, l.Hosts[1], one.Address())
		a, _ := box(t, one, "10.2.1.1/24")
		c, _ := box(t, two, "10.2.1.2/24")
		boxPings(t, a, "10.2.1.2")
		return ends{"10.2.1.2", one.Policy, [2]func(...string) lab.Result{one.Weave, two.Weave}, c.RunInside, a.RunInside}
	}
	var args []string
	if kind == "user-space path" {
		args = []string{"--no-fastdp"}
	}
	l := mesh(t, lab.Config{Hosts: 2}, args...)
	a, c := container(t, l.Hosts[0], "10.2.1.1/24"), container(t, l.Hosts[1], "10.2.1.2/24")
	pings(t, a, "10.2.1.2", soon)
	in := func(c *lab.Container) func(...string) lab.Result {
		return func(args ...string) lab.Result { return c.Run(t.Context(), nil, "", args[0], args[1:]...) }
	}
	if kind == "kernel path" {
		eventually(t, soon, func() error {
			if s := l.Hosts[0].Weave("status", "connections").Stdout; !strings.Contains(s, "fastdp") {
				return fmt.Errorf("not on the kernel path: %s", s)
			}
			return nil
		})
	}
	return ends{"10.2.1.2", l.Hosts[0].Policy, [2]func(...string) lab.Result{l.Hosts[0].Weave, l.Hosts[1].Weave}, in(c), in(a)}
}

// policySet sets a policy, or takes it away, and waits for the other host.
func policySet(t *testing.T, e ends, text string) {
	t.Helper()
	r := lab.Result{}
	if text == "" {
		r = e.weave[0]("policy", "clear")
	} else {
		r = e.set(text)
	}
	if r.RC != 0 {
		t.Fatal(r)
	}
	eventually(t, soon, func() error {
		if r := e.weave[1]("policy", "show"); r.Stdout != text {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

// stream measures one TCP connection, in Gb/s, without its first second.
func (e ends) stream(t *testing.T) float64 {
	t.Helper()
	served := make(chan lab.Result, 1)
	go func() { served <- e.serve("iperf3", "-s", "-1", "-p", "5001") }()
	var report struct {
		End struct {
			Received struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	eventually(t, soon, func() error {
		r := e.ask("iperf3", "-c", e.ip, "-p", "5001", "-O", "1", "-t", "2", "-J", "--connect-timeout", "2000")
		if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil || report.End.Received.Bits == 0 {
			return fmt.Errorf("iperf3 measured nothing: %v, %v", err, r)
		}
		return nil
	})
	<-served
	return report.End.Received.Bits / 1e9
}
