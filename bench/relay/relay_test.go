package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

func TestMain(m *testing.M) {
	_ = os.Setenv("WEAVE_BIN", "/bin/false") // the lab need not build what is not tested here
	os.Exit(lab.Main(m.Run))
}

// relayed joins two namespaces by a relay in a third.
func relayed(t *testing.T, delay time.Duration, loss float64) (from, to *lab.NS) {
	t.Helper()
	if err := lab.Available(); err != nil {
		t.Skip(err)
	}
	var ns [3]*lab.NS
	for i := range ns {
		var err error
		name := fmt.Sprintf("%s-%d", t.Name(), i)
		if ns[i], err = lab.NewNS(name, "relay"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ns[i].Close() })
	}
	a, b, middle := ns[0], ns[1], ns[2]
	whole := map[string]bool{"tx-checksum-ip-generic": false}
	err := errors.Join(
		lab.Veth(middle, "p1", a, "eth0", 1500), lab.Veth(middle, "p2", b, "eth0", 1500),
		lab.PlainNIC(a, "eth0"), lab.PlainNIC(b, "eth0"),
		lab.SetFeatures(a, "eth0", whole), lab.SetFeatures(b, "eth0", whole),
		lab.SetFeatures(middle, "p1", map[string]bool{"rx-gro": false}), lab.SetFeatures(middle, "p2", map[string]bool{"rx-gro": false}),
		a.AddAddr("eth0", "10.9.0.1/24"), b.AddAddr("eth0", "10.9.0.2/24"))
	if err != nil {
		t.Fatal(err)
	}
	var ports [2]*port
	if err := middle.Do(func() (err error) { ports, err = open("p1", "p2"); return err }); err != nil {
		t.Fatal(err)
	}
	go func() { _ = run(ports, delay, loss, 1) }()
	if err := lab.Eventually(5*time.Second, func() error { _, err := a.Ping("10.9.0.2", 56, 100*time.Millisecond); return err }); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestRelayHoldsFrames(t *testing.T) {
	a, b := relayed(t, 20*time.Millisecond, 0)
	took, err := a.Ping("10.9.0.2", 1472, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if least := 39 * time.Millisecond; took < least {
		t.Errorf("a round trip through 20 ms each way took %v", took)
	}
	if _, err := lab.Transfer(a, b, "10.9.0.2:7000", 1<<20, 20*time.Second); err != nil {
		t.Error(err)
	}
}

func TestRelayLosesFrames(t *testing.T) {
	a, _ := relayed(t, 0, 20)
	lost := 0
	for range 100 {
		if _, err := a.Ping("10.9.0.2", 56, 20*time.Millisecond); err != nil {
			lost++
		}
	}
	// 36 of 100 are expected; the bounds are six standard deviations away
	if lost < 7 || lost > 65 {
		t.Errorf("%d of 100 round trips lost at 20 %% each way", lost)
	}
}

func TestDice(t *testing.T) {
	lose := dice(1, rand.New(rand.NewPCG(1, 2)))
	n := 0
	for range 100_000 {
		if lose() {
			n++
		}
	}
	if n < 900 || n > 1100 {
		t.Errorf("%d of 100,000 lost at 1 %%", n)
	}
}
