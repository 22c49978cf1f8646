package stack

import (
	"fmt"
	"testing"
)

var sink Verdict

func BenchmarkKnownUnicast(b *testing.B) {
	s := trio(Config{Seed: 1})
	there := frameOf(number(1), number(2), EtherTypeIPv4, make([]byte, 50)...)
	back := frameOf(number(2), number(1), EtherTypeIPv4, make([]byte, 50)...)
	s.Decide(1, there, 1)
	b.ReportAllocs()
	for b.Loop() {
		s.Decide(1, back, 3)
		sink = s.Decide(1, there, 1)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/frame")
}

func BenchmarkFlood(b *testing.B) {
	s := trio(Config{Seed: 1})
	f := frameOf(macFromBits(macBroadcast), number(1), EtherTypeARP, make([]byte, 46)...)
	b.ReportAllocs()
	for b.Loop() {
		sink = s.Decide(1, f, 1)
	}
}

func BenchmarkFullTable(b *testing.B) {
	s := trio(Config{Seed: 1})
	frames := make([][]byte, DefaultCapacity)
	for i := range frames {
		frames[i] = frameOf(number((i*7919+1)%DefaultCapacity), number(i), EtherTypeIPv4, make([]byte, 6)...)
		s.Decide(1, frames[i], Port(1+i%3))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		sink = s.Decide(1, frames[i%len(frames)], Port(1+i%len(frames)%3))
		i++
	}
}

// engage makes a switch of trio follow groups: a querier behind port 2, members behind ports 1 and 3. Then it is second 20.
func engage(s *Switch, groups int) {
	for _, six := range []bool{false, true} {
		s.Decide(1, query(six, number(99), 10), 2)
	}
	for g := range groups {
		for _, p := range []Port{1, 3} {
			s.Decide(2, report(g4(g), number(int(p))), p)
		}
	}
	s.Age(20)
}

func BenchmarkKnownGroup(b *testing.B) {
	for _, groups := range []int{1, DefaultMaxGroups} {
		b.Run(fmt.Sprint(groups), func(b *testing.B) {
			s := trio(Config{Seed: 1})
			engage(s, groups)
			f := data(g4(0), number(1))
			if v := s.Decide(20, f, 1); v.Action != Group {
				b.Fatalf("verdict %+v", v)
			}
			b.ReportAllocs()
			for b.Loop() {
				sink = s.Decide(20, f, 1)
			}
		})
	}
}

// BenchmarkAge is one call with a full table in which nothing is too old.
func BenchmarkAge(b *testing.B) {
	s := trio(Config{Seed: 1})
	for i := range DefaultCapacity {
		s.Decide(1, frameOf(number(0), number(1+i), EtherTypeARP), 1)
	}
	for b.Loop() {
		s.Age(2)
	}
}
