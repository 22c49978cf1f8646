package session

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// network is two ends and the messages between them, which rapid loses, doubles, delays and reorders.
//
//	a ──► wire[0] ──► b
//	a ◄── wire[1] ◄── b
type network struct {
	t      *rapid.T
	ends   [2]*end
	wire   [2][][]byte
	sealed map[string]bool // receiver and counter of every data message: none may occur twice
	opened map[string]bool
	limits Limits
}

// propertyLimits are low enough for the message limits to be reached.
var propertyLimits = Limits{RekeyAfterMessages: 15, RejectAfterMessages: 25}

func newNetwork(t *rapid.T) *network {
	// rapid's own source would make each drawn byte shrinkable; one seed is enough here.
	source := rand.NewChaCha8([32]byte{rapid.Byte().Draw(t, "seed")})
	suites := [2]Suite{Suite(rapid.IntRange(0, 1).Draw(t, "suite")), Suite(rapid.IntRange(0, 1).Draw(t, "other suite"))}
	cfg := Config{Rand: io.Reader(source), Limits: propertyLimits}
	n := &network{t: t, sealed: map[string]bool{}, opened: map[string]bool{}, limits: propertyLimits.withDefaults()}
	n.ends = [2]*end{newEnd(t, 1, addrA, cfg), newEnd(t, 101, addrB, cfg)}
	for i, x := range n.ends {
		x.step(AddPeer{Key: n.ends[1-i].m.PublicKey(), Suite: suites[i]})
	}
	return n
}

// step does one step and the effects that a driver does.
func (n *network) step(i int, in Input) {
	x := n.ends[i]
	e := x.step(in)
	n.wire[i] = append(n.wire[i], x.take()...)
	for range e.Keepalive {
		n.send(i, nil)
	}
	for _, d := range e.Dropped {
		switch d.Reason {
		case DropReplay, DropFlood, DropUnknownIndex, DropForged: // what doubled and late messages meet
		default:
			n.t.Fatalf("dropped for %v", d.Reason)
		}
	}
}

// send seals one data message, or asks for a handshake.
func (n *network) send(i int, plaintext []byte) {
	x, y := n.ends[i], n.ends[1-i]
	k := x.keysFor(y).Sending()
	if k == nil {
		n.step(i, Want{Key: y.m.PublicKey()})
		return
	}
	n.withinTime(x, k)
	msg, err := k.Seal(nil, plaintext)
	if err != nil {
		n.t.Fatalf("sealing with what Sending offers: %v", err)
	}
	counter := binary.LittleEndian.Uint64(msg[8:])
	name := fmt.Sprintf("%d %08x %d", i, k.LocalIndex(), counter)
	if n.sealed[name] || counter >= n.limits.RejectAfterMessages {
		n.t.Fatalf("sealed with counter %d, twice: %t", counter, n.sealed[name])
	}
	n.sealed[name] = true
	n.wire[i] = append(n.wire[i], msg)
}

// withinTime fails when a keypair was used past its limits, seen from outside.
func (n *network) withinTime(x *end, k *Keypair) {
	if age := x.now.Sub(x.clock.time(k.created)); age >= n.limits.RejectAfterTime {
		n.t.Fatalf("a keypair is used after %v", age)
	}
}

// arrive hands a message from end i to the other.
func (n *network) arrive(i int, msg []byte) {
	x, y := n.ends[i], n.ends[1-i]
	if msg[0] != typeData {
		n.step(1-i, Datagram{From: x.addr, Bytes: msg})
		return
	}
	k := y.receive[binary.LittleEndian.Uint32(msg[4:])]
	if k == nil {
		return
	}
	counter := binary.LittleEndian.Uint64(msg[8:])
	name := fmt.Sprintf("%d %08x %d", i, k.LocalIndex(), counter)
	_, err := k.Open(bytes.Clone(msg))
	switch {
	case err == nil && n.opened[name]:
		n.t.Fatal("one message was opened twice")
	case err == nil:
		n.withinTime(y, k)
		n.opened[name] = true
	case err == ErrReplayed && n.opened[name], err == ErrExpired:
	default:
		n.t.Fatalf("open: %v", err)
	}
}

func (n *network) pass(d time.Duration) {
	advance(d, n.ends[:]...)
	for i, x := range n.ends {
		if at := x.m.Deadline(); !at.IsZero() && !at.After(x.now) {
			n.step(i, Tick{})
		}
	}
}

// pick draws a message on the wire, and takes it off unless it is to be doubled.
func (n *network) pick(t *rapid.T, keep bool) (int, []byte) {
	i := rapid.IntRange(0, 1).Draw(t, "direction")
	if len(n.wire[i]) == 0 {
		i = 1 - i
	}
	if len(n.wire[i]) == 0 {
		t.Skip("nothing is on the wire")
	}
	at := rapid.IntRange(0, len(n.wire[i])-1).Draw(t, "message")
	msg := n.wire[i][at]
	if !keep {
		n.wire[i] = append(n.wire[i][:at:at], n.wire[i][at+1:]...)
	}
	return i, msg
}

// settle lets everything arrive in order until both ends can reach each other, for at most some time.
func (n *network) settle() {
	for range 60 {
		for i := range n.wire {
			waiting := n.wire[i]
			n.wire[i] = nil
			for _, msg := range waiting {
				n.arrive(i, msg)
			}
		}
		if len(n.wire[0])+len(n.wire[1]) == 0 && n.common() {
			return
		}
		for i := range n.ends {
			if n.ends[i].keysFor(n.ends[1-i]).Sending() == nil {
				n.step(i, Want{Key: n.ends[1-i].m.PublicKey()})
			}
		}
		n.pass(500 * time.Millisecond)
	}
	n.t.Fatal("no common keypair 30 s after the loss stopped")
}

// common reports whether what each end sends with, the other can open.
func (n *network) common() bool {
	for i, x := range n.ends {
		y := n.ends[1-i]
		k := x.keysFor(y).Sending()
		if k == nil || y.receive[k.RemoteIndex()] == nil {
			return false
		}
		n.send(i, []byte("hello"))
		msg := n.wire[i][len(n.wire[i])-1]
		n.wire[i] = n.wire[i][:len(n.wire[i])-1]
		if p, err := y.open(msg); err != nil || string(p) != "hello" {
			return false
		}
	}
	return true
}

func TestLossyNetwork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := newNetwork(t)
		t.Repeat(map[string]func(*rapid.T){
			"want": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "end")
				n.step(i, Want{Key: n.ends[1-i].m.PublicKey()})
			},
			"data": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "end")
				for range rapid.IntRange(1, 10).Draw(t, "messages") {
					n.send(i, []byte("data"))
				}
			},
			"deliver": func(t *rapid.T) { n.arrive(n.pick(t, false)) },
			"double":  func(t *rapid.T) { n.arrive(n.pick(t, true)) },
			"lose":    func(t *rapid.T) { n.pick(t, false) },
			"all": func(t *rapid.T) {
				for i := range n.wire {
					waiting := n.wire[i]
					n.wire[i] = nil
					for _, msg := range waiting {
						n.arrive(i, msg)
					}
				}
			},
			"pass": func(t *rapid.T) {
				for range rapid.IntRange(1, 40).Draw(t, "times") {
					n.pass(time.Duration(rapid.IntRange(1, 5000).Draw(t, "ms")) * time.Millisecond)
				}
			},
			"": func(*rapid.T) {
				for _, x := range n.ends {
					if err := x.m.Check(); err != nil {
						n.t.Fatal(err)
					}
				}
			},
		})
		n.settle()
	})
}
