package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weave/peer/wire"
	"weave/runtime"
	"weave/stack"
)

// to is the headers of a frame for a station: its MAC and IPv4 address end with n.
func to(n byte) []byte {
	f := make([]byte, 54)
	f[5], f[33] = n, n
	return f
}

// judges counts how often it was asked about each station, and says yes to those with even numbers until told otherwise.
type judges struct {
	mu        sync.Mutex // for what follows
	asked     map[byte]int
	refuses   bool
	forwarded uint64
}

func (j *judges) judge(s station) (bool, uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked[s.mac[5]]++
	return s.mac[5]%2 == 0 && !j.refuses, j.forwarded
}

// now changes what it says.
func (j *judges) now(refuses bool, forwarded uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.refuses, j.forwarded = refuses, forwarded
}

// want holds how often it was asked about 2 and 3 against what is expected.
func (j *judges) want(t *testing.T, two, three int) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.asked[2] != two || j.asked[3] != three {
		t.Errorf("asked %v, want %d and %d times", j.asked, two, three)
	}
}

// Nobody is sent long frames before it is known that it takes them; what is known is looked at again as long as frames
// come, and forgotten when none do.
func TestLongFramesAreFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l, j := newLongFrames(), judges{asked: map[byte]int{}}
		go func() { _ = l.run(ctx, j.judge) }()
		synctest.Wait()
		for _, n := range []byte{2, 3} {
			if l.takes(to(n)) {
				t.Errorf("%d takes long frames before anybody looked", n)
			}
			synctest.Wait()
			if got := l.takes(to(n)); got != (n == 2) {
				t.Errorf("%d takes long frames: %v", n, got)
			}
		}
		j.now(true, 0)
		time.Sleep(longLook + time.Millisecond)
		synctest.Wait()
		if l.takes(to(2)) {
			t.Error("not looked at again")
		}
		j.want(t, 2, 2)
		j.now(false, 0)
		time.Sleep(longLook)
		synctest.Wait()
		if !l.takes(to(2)) {
			t.Error("what did not take long frames once never does")
		}
		j.want(t, 3, 2)
		j.now(false, 7)
		time.Sleep(longLook)
		synctest.Wait()
		if l.takes(to(2)) {
			t.Error("a router takes long frames")
		}
		time.Sleep(longLook)
		synctest.Wait()
		if !l.takes(to(2)) {
			t.Error("what was a router once never takes long frames")
		}
		time.Sleep(10 * longLook)
		synctest.Wait()
		if n := len(*l.known.Load()); n != 0 {
			t.Errorf("%d stations known to whom nothing was sent", n)
		}
		j.want(t, 6, 2)
	})
}

// A peer that makes up stations neither fills the memory nor displaces others.
func TestLongFramesKnowSoMany(t *testing.T) {
	l := newLongFrames()
	for i := range 2 * longMost {
		l.learn(station{addr: [4]byte{10, 0, byte(i >> 8), byte(i)}}, func(station) (bool, uint64) { return true, 0 })
	}
	if n := len(*l.known.Load()); n != longMost {
		t.Errorf("%d known", n)
	}
	if f := to(0); l.takes(append(f[:30], 10, 0, 255, 255)) {
		t.Error("one too many is known")
	}
}

// taker is a wiring of which some namespaces take long frames.
type taker map[runtime.Identity]error

func (t taker) TakesLong(target runtime.Target, size int) (bool, uint64, error) {
	err, ok := t[target.ID]
	return ok && size == wire.LongestPacket, target.ID.Inode, err
}

// Only what we attached is asked about, by the MAC and an address that it has from us.
func TestWhoTakesLongFrames(t *testing.T) {
	one, two, three := runtime.Identity{Inode: 1}, runtime.Identity{Inode: 2}, runtime.Identity{Inode: 3}
	a := newAttachments(nil, nil, slog.New(slog.DiscardHandler))
	for i, id := range []runtime.Identity{one, two, three} {
		a.list[id] = runtime.Attachment{
			Target: runtime.Target{ID: id}, MAC: runtime.MAC{2, 0, 0, 0, 0, byte(i)},
			Addresses: []netip.Prefix{netip.MustParsePrefix("fd00::1/64"), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 8)},
		}
	}
	judge := a.takesLong(taker{one: nil, two: errors.New("gone")}, slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		mac, addr byte
		want      bool
	}{{0, 0, true}, {0, 1, false}, {1, 0, false}, {1, 1, false}, {2, 2, false}, {9, 0, false}} {
		if got, forwarded := judge(station{mac: stack.MAC{2, 0, 0, 0, 0, c.mac}, addr: [4]byte{10, 0, 0, c.addr}}); got != c.want || got && forwarded != 1 {
			t.Errorf("%+v: %v, %d", c, got, forwarded)
		}
	}
}
