package server

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

func client6(i uint32) netip.Addr {
	a := netip.MustParseAddr("fd00::").As16()
	binary.BigEndian.PutUint32(a[12:], i)
	return netip.AddrFrom16(a)
}

// drain asks until nothing more is allowed.
func drain(t *testing.T, l *limiter, a netip.Addr, now time.Time) {
	t.Helper()
	n := 0
	for l.upstreamAt(a, now) {
		n++
	}
	if n != upstreamBurst {
		t.Fatalf("%s was allowed %d at once", a, n)
	}
}

func TestLimits(t *testing.T) {
	var l limiter
	drain(t, &l, client6(1), noon)
	late := noon.Add(time.Minute)
	drain(t, &l, client6(1), late)
	for i := range 10 {
		if at := late.Add(time.Duration(i+1) * time.Second / upstreamRate); !l.upstreamAt(client6(1), at) || l.upstreamAt(client6(1), at) {
			t.Fatalf("%d: not one query each 1/%d s", i, upstreamRate)
		}
	}
	if !l.localAt(client6(1), late) {
		t.Error("who asks too much of others may not ask for our names")
	}
	for range 2 * localBurst {
		if !l.local(netip.MustParseAddr("127.0.0.1")) || !l.upstream(netip.Addr{}) {
			t.Fatal("the host itself is limited")
		}
	}
}

// Containers share a /64: each has limits of its own.
func TestNeighboursDoNotShareLimits(t *testing.T) {
	var l limiter
	drain(t, &l, client6(1), noon)
	drain(t, &l, client6(2), noon)
	drain(t, &l, netip.MustParseAddr("10.0.0.1"), noon)
}

// Newcomers take the places of those who are silent, not of who asks too much.
func TestLimiterForgetsTheSilent(t *testing.T) {
	var l limiter
	busy := client6(0)
	drain(t, &l, busy, noon)
	for i := range uint32(3 * maxClients) {
		l.upstreamAt(client6(i+1), noon)
		if i%1000 == 0 && l.upstreamAt(busy, noon) {
			t.Fatalf("all limits are forgotten with %d clients", i)
		}
	}
	if n := l.clients.len(); n != maxClients || len(l.clients.at) != maxClients {
		t.Errorf("%d clients are remembered", n)
	}
	drain(t, &l, client6(1), noon) // silent for so long that it is new
}

// One client cannot take the places of all.
func TestPlaces(t *testing.T) {
	var p places
	for range maxWaitingClient {
		if !p.take(client6(1)) {
			t.Fatal("no place")
		}
	}
	if p.take(client6(1)) || !p.take(client6(2)) {
		t.Error("places are not shared out")
	}
	p.give(client6(1))
	if !p.take(client6(1)) {
		t.Error("a place is not given back")
	}
	host := netip.MustParseAddr("127.0.0.1")
	n := 0
	for p.take(host) {
		n++
	}
	if n != maxWaiting-maxWaitingClient-1 {
		t.Errorf("the host had %d places", n)
	}
	for range n {
		p.give(host)
	}
	for range maxWaitingClient {
		p.give(client6(1))
	}
	p.give(client6(2))
	if p.total != 0 || len(p.held) != 0 {
		t.Errorf("%d places are left over, of %d clients", p.total, len(p.held))
	}
}
