package peer

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func drawLink(t *rapid.T) Link {
	return Link{
		Peer:     Name(rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "peer")),
		Outbound: rapid.Bool().Draw(t, "outbound"), Established: rapid.Bool().Draw(t, "established"),
		RTT:     time.Duration(rapid.Uint32().Draw(t, "rtt")) * time.Microsecond,
		Address: rapid.StringN(0, 60, 260).Draw(t, "address"), Observed: rapid.StringN(0, 60, 260).Draw(t, "observed"),
		Stream: rapid.Bool().Draw(t, "stream"), Trusted: rapid.Bool().Draw(t, "trusted"),
	}
}

// Links give back what they were made of, and are equal exactly if their lists are.
func TestLinksAreTheirList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Custom(drawLink), 0, 40).Draw(t, "links")
		links := MakeLinks(list...)
		if got := slices.Collect(links.All()); !slices.Equal(got, list) || links.Len() != len(list) {
			t.Fatalf("made of %+v, gave %+v", list, got)
		}
		for i, l := range list {
			if links.At(i) != l || links.Peer(i) != l.Peer {
				t.Fatalf("link %d is %+v, to %s, want %+v", i, links.At(i), links.Peer(i), l)
			}
		}
		other := slices.Clone(list)
		if len(other) > 0 {
			other[rapid.IntRange(0, len(other)-1).Draw(t, "changed")] = drawLink(t)
		}
		if got, want := links.Equal(MakeLinks(other...)), slices.Equal(list, other); got != want {
			t.Fatalf("equal %v, want %v: %+v and %+v", got, want, list, other)
		}
		if links.Equal(MakeLinks(append(slices.Clone(list), Link{})...)) {
			t.Fatal("equal to a longer list")
		}
	})
}

// Times may waver, but that one is known at all is news.
func TestLinksButTimes(t *testing.T) {
	one := func(rtt time.Duration) Links { return MakeLinks(Link{Peer: Name{2}, RTT: rtt, Address: "192.0.2.1:1"}) }
	for _, c := range []struct {
		a, b Links
		want bool
	}{
		{one(time.Millisecond), one(time.Second), true},
		{one(0), one(0), true},
		{one(0), one(time.Second), false},
		{one(time.Second), one(0), false},
		{one(time.Second), MakeLinks(Link{Peer: Name{2}, RTT: time.Second, Address: "192.0.2.1:2"}), false},
		{one(time.Second), Links{}, false},
	} {
		if got := c.a.equalButTimes(c.b); got != c.want {
			t.Errorf("%+v and %+v: %v", c.a.At(0), c.b, got)
		}
	}
}

// What no record could tell is cut to what it can.
func TestLinksBeyondARecord(t *testing.T) {
	l := MakeLinks(Link{RTT: -time.Second}, Link{RTT: math.MaxInt64}, Link{RTT: 1999})
	if l.At(0).RTT != 0 || l.At(1).RTT != math.MaxUint32*time.Microsecond || l.At(2).RTT != time.Microsecond {
		t.Errorf("times %v, %v, %v", l.At(0).RTT, l.At(1).RTT, l.At(2).RTT)
	}
	var list []Link
	for i := range 300 {
		list = append(list, Link{Address: fmt.Sprintf("%d%s", i, strings.Repeat("x", 250))})
	}
	l = MakeLinks(list...)
	for i := range list {
		if got := l.At(i).Address; got != list[i].Address && got != "" || i < 200 && got == "" {
			t.Fatalf("address %d is %q", i, got)
		}
	}
	if l.Len() != 300 || l.At(299).Address != "" {
		t.Errorf("%d links, the last to %q", l.Len(), l.At(299).Address)
	}
}
