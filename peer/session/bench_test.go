package session

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"
)

func BenchmarkSeal(b *testing.B) {
	benchmark(b, func(b *testing.B, k, _ *Keypair, plain []byte) {
		buf := make([]byte, 0, len(plain)+Overhead)
		for b.Loop() {
			if _, err := k.Seal(buf, plain); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRow is BenchmarkSeal for messages that follow each other, as many as a super-frame has.
func BenchmarkRow(b *testing.B) {
	const messages = 46
	benchmark(b, func(b *testing.B, k, _ *Keypair, plain []byte) {
		buf := make([]byte, 0, len(plain)+Overhead)
		b.SetBytes(int64(messages * len(plain)))
		for b.Loop() {
			row, err := k.Row(messages)
			if err != nil {
				b.Fatal(err)
			}
			for range messages {
				row.Seal(buf, plain)
			}
			row.End()
		}
	})
}

// BenchmarkSealAndOpen subtract BenchmarkSeal to have the cost of opening: a message can be opened only once.
func BenchmarkSealAndOpen(b *testing.B) {
	benchmark(b, func(b *testing.B, k, other *Keypair, plain []byte) {
		buf := make([]byte, 0, len(plain)+Overhead)
		for b.Loop() {
			msg, err := k.Seal(buf, plain)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := other.Open(msg); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSealParallel(b *testing.B) {
	benchmark(b, func(b *testing.B, k, _ *Keypair, plain []byte) {
		b.RunParallel(func(pb *testing.PB) {
			buf := make([]byte, 0, len(plain)+Overhead)
			for pb.Next() {
				if _, err := k.Seal(buf, plain); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func benchmark(b *testing.B, f func(b *testing.B, k, other *Keypair, plain []byte)) {
	for _, suite := range []Suite{SuiteWireGuard, SuiteAESGCM} {
		for _, n := range []int{64, 1400} {
			b.Run(fmt.Sprintf("%v/%d", suite, n), func(b *testing.B) {
				k, other := newTestKeypairs(b, suite)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				f(b, k, other, make([]byte, n))
			})
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	now := time.Now()
	var m [2]*Machine
	for i := range m {
		var err error
		if m[i], err = New(Config{Private: privateKey(byte(100 * i)), Rand: rand.Reader}); err != nil {
			b.Fatal(err)
		}
	}
	for i := range m {
		m[i].Step(now, AddPeer{Key: m[1-i].PublicKey()})
	}
	for b.Loop() {
		now = now.Add(6 * time.Second)
		e := m[0].Step(now, Want{Key: m[1].PublicKey()})
		e = m[1].Step(now, Datagram{Bytes: e.Send[0].Bytes})
		if e = m[0].Step(now, Datagram{Bytes: e.Send[0].Bytes}); len(e.Install) != 1 {
			b.Fatal("no keypair")
		}
	}
}
