package stack

import (
	"encoding/binary"
	"testing"
)

// number makes a station's address out of a number.
func number(n int) MAC {
	m := MAC{0x02}
	binary.BigEndian.PutUint32(m[2:], uint32(n))
	return m
}

// frameOf lays an Ethernet frame out.
func frameOf(dst, src MAC, etherType uint16, payload ...byte) []byte {
	b := append(append(make([]byte, 0, HeaderLen+len(payload)), dst[:]...), src[:]...)
	return append(binary.BigEndian.AppendUint16(b, etherType), payload...)
}

// trio is a switch with local ports 1, 2 and remote ports 3, 4.
func trio(cfg Config) *Switch {
	s := NewSwitch(cfg)
	s.AddPort(1, Local)
	s.AddPort(2, Local)
	s.AddPort(3, Remote)
	s.AddPort(4, Remote)
	return s
}

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

