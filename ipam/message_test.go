package ipam

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"weave/peer"
)

func TestDeltaRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDelta(t)
		w := &WireDelta{}
		if err := proto.Unmarshal(marshal(d.wire(nil)), w); err != nil {
			t.Fatal(err)
		}
		got, _, err := w.delta(testGenesis.Range)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(d) {
			t.Fatalf("%v became %v", d, got)
		}
	})
}

func TestVoteRoundTrip(t *testing.T) {
	d := newDecree()
	gone := Member{simName(3), 2}
	v := vote{ballot{7, simName(1)}, ballot{5, simName(2)}, []Member{{simName(2), 4}}}
	d.joinVote(simName(0), v)
	g, n, got, err := d.wire(gone, simName(0)).parse()
	if err != nil || g != gone || n != simName(0) || !reflect.DeepEqual(got, v) {
		t.Errorf("%v %v %v %v", g, n, got, err)
	}
}

// What peers of this version send must be read by later ones.
func TestGoldenMessage(t *testing.T) {
	d := Delta{
		Genesis: Genesis{Range: netip.MustParsePrefix("10.32.0.0/12"), Seeds: []peer.Name{simName(0)}},
		Entries: []Entry{{0x0a200000, 0x0a2fffff, 3, Member{simName(0), 1}}},
		Tombs:   map[Member]Member{{simName(1), 1}: {simName(0), 1}},
		Settled: []uint64{9},
	}
	m := &WireMessage{
		RangeStart: 0x0a200000, RangeBits: 12, Genesis: d.Genesis.ID(), Sum: 5, Free: 77, Digest: true, Delta: d.wire(map[peer.Name]string{simName(0): "one"}),
		Ask: &WireAsk{Id: 1, Start: 0x0a200000, Bits: 24, Ident: "x", Life: 2}, Answer: &WireAnswer{Id: 2, Refused: true, Reason: "no"},
	}
	const want = "0d0000200a100c1975e7a596ce92e924210500000000000000284d380152450a06020000000001120602000000000112060200000000021a02010122040000200a2a04ffff2f0a3201033a01004201014a0100520809000000000000005a036f6e655a006215090100000000000000150000200a181822017828026a0f09020000000000000010011a026e6f"
	if got := hex.EncodeToString(marshal(m)); got != want {
		t.Errorf("message is\n%s, want\n%s", got, want)
	}
}

func TestV6(t *testing.T) {
	r := netip.MustParsePrefix("10.32.0.0/12")
	ula := DeriveV6(r)
	if ula != DeriveV6(netip.MustParsePrefix("10.33.1.1/12")) || ula == DeriveV6(netip.MustParsePrefix("10.32.0.0/13")) {
		t.Error("the prefix does not belong to the range")
	}
	if a := ula.Addr().As16(); a[0] != 0xfd || ula.Bits() != 64 || a[6] != 0 || a[7] != 0 {
		t.Errorf("%s is no unique local /64", ula)
	}
	got := V6(netip.MustParsePrefix("fd12:3456:789a:1::/64"), netip.MustParsePrefix("10.32.0.1/12"))
	if got.String() != "fd12:3456:789a:1::a20:1/108" {
		t.Errorf("V6 is %s", got)
	}
	for _, bad := range []string{"", "10.0.0.0/8", "fd00::/48", "fd00::1/64", "ff00::/64", "fe80::/64", "::/64", "x"} {
		if _, err := ParseV6(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if p, err := ParseV6("fd00:1::/64"); err != nil || p.Bits() != 64 {
		t.Error(p, err)
	}
}

// Saved state makes the same core again; under another name or range nothing
// of it is left.
func TestSavedState(t *testing.T) {
	n := quiet(t, 3, "10.32.0.0/24")
	n.alloc(0, "a", "10.32.0.0/24")
	n.must(0, claimOf(2, "b", "10.2.1.1/24"), 2)
	n.run(time.Minute)
	n.kill(2)
	n.must(0, Remove{ID: 3, Peers: []string{"host3"}}, 3)
	before := n.hosts[0].core
	load := func(cfg Config) *Core {
		cfg.Rand = rand.NewPCG(1, 1)
		for k, v := range n.hosts[0].disk {
			if err := cfg.Saved.Restore(k, v); err != nil {
				t.Fatal(err)
			}
		}
		c := New(cfg)
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	r := netip.MustParsePrefix("10.32.0.0/24")
	c := load(Config{Name: simName(0), Range: r})
	if !same(c.ring, before.ring) || c.self != before.self || !slices.Equal(c.held.all(), before.held.all()) || !slices.Equal(c.space.own, before.space.own) {
		t.Error("it is not the same")
	}
	if c.world.nicks[simName(1)] != "host2" {
		t.Error("nicknames are lost")
	}
	for _, cfg := range []Config{{Name: simName(7), Range: r}, {Name: simName(0), Range: netip.MustParsePrefix("10.32.0.0/23")}} {
		c := load(cfg)
		if c.ring != nil || c.held.len() > 0 {
			t.Error("something is left")
		}
		fx := c.Step(time.Unix(0, 0), Tick{})
		disk := maps.Clone(n.hosts[0].disk)
		for _, s := range fx.Save {
			if s.Value == nil {
				delete(disk, s.Key)
			} else {
				disk[s.Key] = s.Value
			}
		}
		if len(disk) != 1 || disk[keyMeta] == nil {
			t.Errorf("left on disk: %v", slices.Sorted(maps.Keys(disk)))
		}
	}
}

func FuzzMessage(f *testing.F) {
	n := quietFuzz()
	for _, l := range n {
		f.Add(l)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := New(Config{Name: simName(0), Range: netip.MustParsePrefix("10.32.0.0/24"), Rand: rand.NewPCG(1, 1)})
		now := time.Unix(1e9, 0)
		c.Step(now, Reachable{Peers: map[peer.Name]string{simName(1): "b"}, Electors: 2})
		for range 2 {
			c.Step(now, Message{From: simName(1), Data: data})
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
			c.Step(now, Allocate{ID: 1, Ident: "a", Subnet: netip.MustParsePrefix("10.32.0.0/24")})
			now = now.Add(time.Second)
			c.Step(now, Tick{})
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
			if at := c.Deadline(); !at.IsZero() && !at.After(now) {
				t.Fatalf("deadline %v at %v", at, now)
			}
		}
	})
}

// quietFuzz records messages of a small network.
func quietFuzz() [][]byte {
	var out [][]byte
	a := New(Config{Name: simName(0), Range: netip.MustParsePrefix("10.32.0.0/24"), Rand: rand.NewPCG(1, 1)})
	b := New(Config{Name: simName(1), Range: netip.MustParsePrefix("10.32.0.0/24"), Rand: rand.NewPCG(1, 2)})
	now := time.Unix(1e9, 0)
	both := func(from, to *Core, fx Effects) {
		for len(fx.Send) > 0 && len(out) < 60 {
			var next Effects
			for _, s := range fx.Send {
				out = append(out, s.Data)
				next.Send = append(next.Send, to.Step(now, Message{From: from.cfg.Name, Data: s.Data}).Send...)
			}
			fx, from, to = next, to, from
		}
	}
	both(a, b, a.Step(now, Reachable{Peers: map[peer.Name]string{simName(1): "b"}, Electors: 2}))
	both(b, a, b.Step(now, Reachable{Peers: map[peer.Name]string{simName(0): "a"}, Electors: 2}))
	for i := range 20 {
		now = now.Add(time.Second)
		both(a, b, a.Step(now, Allocate{ID: ReqID(i + 1), Ident: fmt.Sprint("x", i), Subnet: netip.MustParsePrefix("10.32.0.0/28")}))
		both(b, a, b.Step(now, Claim{ID: ReqID(i + 100), Ident: fmt.Sprint("y", i), CIDR: netip.MustParsePrefix("10.32.0.200/24")}))
		both(a, b, a.Step(now, Tick{}))
	}
	return out
}

func FuzzRestore(f *testing.F) {
	f.Add("meta", []byte{}, "holding/10.32.0.1", []byte{})
	f.Add("entry/0a200000", marshal(largeRing(2, 2, 1).wire(nil)), "meta", marshal(&SavedMeta{
		Name: []byte{2, 0, 0, 0, 0, 1}, RangeStart: 0x0a200000, RangeBits: 12, Life: 1, Seeds: [][]byte{{2, 0, 0, 0, 0, 1}},
	}))
	f.Add("holding/10.32.0.1", marshal(&SavedHolding{Ident: "a", Bits: 12}), "vote/00:00:00:00:00:00@0", marshal(newDecree().wire(Member{}, simName(0))))
	f.Fuzz(func(t *testing.T, k1 string, v1 []byte, k2 string, v2 []byte) {
		cfg := Config{Name: simName(0), Range: netip.MustParsePrefix("10.32.0.0/12"), Rand: rand.NewPCG(1, 1)}
		_ = cfg.Saved.Restore(k1, v1)
		_ = cfg.Saved.Restore(k2, v2)
		c := New(cfg)
		c.Step(time.Unix(1e9, 0), Allocate{ID: 1, Ident: "a", Subnet: cfg.Range})
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
	})
}
