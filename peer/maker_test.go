package peer

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1": "10.0.0.1:6783", "10.0.0.1:99": "10.0.0.1:99", "host": "host:6783", "host.example:1": "host.example:1",
		"::1": "[::1]:6783", "[::1]": "[::1]:6783", "[::1]:99": "[::1]:99", "2001:db8::1": "[2001:db8::1]:6783",
	} {
		if got, err := ParseTarget(in, 6783); err != nil || got != want {
			t.Errorf("ParseTarget(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "host:", ":99", "host:0", "host:x", "host:99999", "a b", "1:2:3", "[::1", "host\n"} {
		got, err := ParseTarget(in, 6783)
		if err == nil {
			t.Errorf("ParseTarget(%q) = %q, want an error", in, got)
		} else if !strings.Contains(err.Error(), "should be host[:port]") {
			t.Errorf("ParseTarget(%q): %v", in, err)
		}
	}
}

func TestBackOff(t *testing.T) {
	b := newBench(t, testConfig(1))
	const addr = "seed:6783"
	b.step(Connect{Targets: []string{"seed"}})
	mean := retryStart
	for i := range 25 {
		if b.dialled(addr) != i+1 {
			t.Fatalf("round %d: dialled %d times", i, b.dialled(addr))
		}
		b.step(DialFailed{Address: addr, Reason: "no such host"})
		wait := b.conn(addr).Retry.Sub(b.now)
		if wait < mean/2 || wait >= mean*3/2 {
			t.Fatalf("round %d: wait %s for a mean of %s", i, wait, mean)
		}
		mean = min(mean*3/2, retryMax)
		b.run(wait)
	}
	if mean != retryMax {
		t.Fatalf("mean %s after 25 rounds", mean)
	}
	b.step(DialFailed{Address: addr, Reason: "no such host"})
	b.step(Connect{Targets: []string{"seed"}})
	if b.dialled(addr) != 27 {
		t.Error("connect must dial a known target at once")
	}
	b.step(DialFailed{Address: addr, Reason: "no such host"})
	if wait := b.conn(addr).Retry.Sub(b.now); wait > retryStart*3/2 {
		t.Errorf("connect must reset the back-off: %s", wait)
	}
}

func TestRetryAfterLoss(t *testing.T) {
	for _, tc := range []struct {
		lasted time.Duration
		atOnce bool
	}{{30 * time.Second, false}, {61 * time.Second, true}} {
		b := newBench(t, testConfig(1))
		b.step(Connect{Targets: []string{"192.0.2.2"}})
		b.join(1, newRemote(2), "192.0.2.2:6783")
		b.run(tc.lasted)
		b.step(ConnDown{Conn: 1, Reason: "EOF"})
		if again := b.dialled("192.0.2.2:6783") == 2; again != tc.atOnce {
			t.Errorf("after %s dialled at once: %v", tc.lasted, again)
		}
	}
}

func TestTargets(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.step(Connect{Targets: []string{"a", "b:1", "bad name", "a"}})
	if !slices.Equal(b.view.Targets, []string{"a", "b:1"}) {
		t.Fatalf("targets %v", b.view.Targets)
	}
	if s := b.all.Save[len(b.all.Save)-1]; s.Key != "targets" || string(s.Value) != "a\nb:1" {
		t.Fatalf("saved %+v", s)
	}
	first := b.view
	b.step(Forget{Targets: []string{"b", "a"}})
	if !slices.Equal(b.view.Targets, []string{"b:1"}) || !slices.Equal(first.Targets, []string{"a", "b:1"}) {
		t.Fatalf("targets %v, before %v", b.view.Targets, first.Targets)
	}
	b.step(Connect{Targets: []string{"c"}, Replace: true})
	if !slices.Equal(b.view.Targets, []string{"c"}) {
		t.Fatalf("targets %v", b.view.Targets)
	}
	b.step(DialFailed{Address: "a:6783", Reason: "x"})
	b.run(time.Minute)
	if b.dialled("a:6783") != 1 {
		t.Error("a forgotten target is dialled")
	}
}

func TestForgetKeepsTheConnection(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.step(Connect{Targets: []string{"192.0.2.2"}})
	b.join(1, newRemote(2), "192.0.2.2:6783")
	b.step(Forget{Targets: []string{"192.0.2.2"}})
	b.run(time.Minute)
	if len(b.view.Neighbours) != 1 {
		t.Error("the connection is gone")
	}
}

func TestTargetWithoutPortIsServedByItsHost(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.join(1, newRemote(2), "")
	b.step(Connect{Targets: []string{"192.0.2.2"}})
	if len(b.all.Dial) != 0 {
		t.Errorf("dialled %v", b.all.Dial)
	}
	b.step(Connect{Targets: []string{"192.0.2.2:7000"}})
	if b.dialled("192.0.2.2:7000") != 1 {
		t.Error("a target with a port must be dialled")
	}
}

func TestDiscovery(t *testing.T) {
	for _, off := range []bool{false, true} {
		cfg := testConfig(1)
		cfg.NoDiscovery = off
		cfg.KnownAddresses = []string{"192.0.2.77:6783"}
		cfg.Addresses = []string{"172.17.0.1:6783"}
		b := newBench(t, cfg)
		via, far := newRemote(2), newRemote(3)
		far.record.Addresses = []string{"198.51.100.3:6783", "172.17.0.1:6783", "junk", "0.0.0.0:1"}
		b.join(1, via, "")
		b.step(Received{Conn: 1, Message: records(far.id.SignRecord(far.record))})
		b.step(Received{Conn: 1, Message: via.publish(1, 3)})
		b.run(2 * time.Second)
		var got []string
		for _, d := range b.all.Dial {
			got = append(got, d.Address)
		}
		slices.Sort(got)
		want := []string{"192.0.2.3:6783", "192.0.2.77:6783", "198.51.100.3:6783"}
		if off {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("discovery off %v: dialled %v, want %v", off, got, want)
		}
	}
}

func TestKnownAddressIsDroppedAfterFailures(t *testing.T) {
	cfg := testConfig(1)
	cfg.KnownAddresses = []string{"192.0.2.77:6783", "192.0.2.78:6783"}
	b := newBench(t, cfg)
	for range 10 {
		for _, d := range b.fx.Dial {
			b.step(DialFailed{Address: d.Address, Reason: "refused"})
		}
		b.run(5 * time.Second)
		if c := b.conn("192.0.2.77:6783"); c.State == StateRetrying {
			b.step(DialFailed{Address: "192.0.2.77:6783", Reason: "refused"})
		}
	}
	if n := b.dialled("192.0.2.77:6783"); n != knownTries {
		t.Errorf("dialled %d times", n)
	}
	last := b.all.Save[len(b.all.Save)-1]
	if last.Key != "addresses" || strings.Contains(string(last.Value), "192.0.2.77") {
		t.Errorf("saved %s=%s", last.Key, last.Value)
	}
}

func TestVanishedPeerIsForgotten(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.join(1, newRemote(2), "")
	b.step(ConnDown{Conn: 1, Reason: "EOF"})
	b.run(200 * time.Millisecond)
	if len(b.view.Peers) != 1 {
		t.Errorf("%d peers", len(b.view.Peers))
	}
	if b.m.topo.crdt.Len() != 2 {
		t.Error("the record must be kept for a while")
	}
	b.run(peerGrace)
	if b.m.topo.crdt.Len() != 1 {
		t.Error("the record must go in the end")
	}
}

func TestLeave(t *testing.T) {
	b := newBench(t, testConfig(1))
	b.step(Connect{Targets: []string{"192.0.2.9"}})
	b.join(1, newRemote(2), "")
	b.step(Leave{Reason: "stopping"})
	if b.closed(1) != "stopping" || len(b.view.Neighbours) != 0 {
		t.Error("not closed")
	}
	b.step(DialFailed{Address: "192.0.2.9:6783", Reason: "x"})
	b.run(time.Minute)
	if b.dialled("192.0.2.9:6783") != 1 {
		t.Error("dialled after leaving")
	}
}
