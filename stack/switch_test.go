package stack

import (
	"slices"
	"testing"
)

// outs gives the ports a verdict names, sorted.
func outs(v Verdict) []Port {
	if v.Action == Unicast {
		return []Port{v.Out}
	}
	return slices.Sorted(v.Ports.All())
}

// want checks where a frame goes.
func want(t *testing.T, what string, v Verdict, ports ...Port) {
	t.Helper()
	if got := outs(v); !slices.Equal(got, ports) {
		t.Errorf("%s: to %v (%v, %v), want %v", what, got, v.Action, v.Reason, ports)
	}
}

func TestHorizon(t *testing.T) {
	s := trio(Config{})
	everybody := MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for in, to := range map[Port][]Port{1: {2, 3, 4}, 2: {1, 3, 4}, 3: {1, 2}, 4: {1, 2}} {
		want(t, "broadcast", tell(t, s, 1, frameOf(everybody, number(int(in)), EtherTypeARP), in), to...)
		want(t, "unknown", tell(t, s, 1, frameOf(number(99), number(int(in)), 0x88b5), in), to...)
	}
	for in := Port(1); in <= 4; in++ {
		for to := Port(1); to <= 4; to++ {
			v := tell(t, s, 2, frameOf(number(int(to)), number(int(in)), EtherTypeIPv6), in)
			switch {
			case in == to:
				if v.Reason != DropSamePort {
					t.Errorf("%d to itself: %+v", in, v)
				}
			case in >= 3 && to >= 3:
				if v.Reason != DropHorizon {
					t.Errorf("%d to %d: %+v", in, to, v)
				}
			default:
				want(t, "known", v, to)
			}
		}
	}
}

func TestDrops(t *testing.T) {
	s := trio(Config{})
	good := frameOf(number(1), number(2), EtherTypeARP)
	for _, c := range []struct {
		name  string
		frame []byte
		in    Port
		why   DropReason
	}{
		{"empty", nil, 1, DropMalformed},
		{"short", good[:13], 1, DropMalformed},
		{"half a tag", tagged(good, EtherTypeVLAN, 1)[:16], 1, DropMalformed},
		{"port 0", good, 0, DropUnknownPort},
		{"no such port", good, 77, DropUnknownPort},
		{"source zero", frameOf(number(1), MAC{}, EtherTypeARP), 1, DropBadSource},
		{"source a group", frameOf(number(1), MAC{1, 0, 0x5e, 0, 0, 1}, EtherTypeARP), 1, DropBadSource},
		{"spanning tree", frameOf(MAC{1, 0x80, 0xc2, 0, 0, 0}, number(3), 38), 1, DropReserved},
		{"last reserved", frameOf(MAC{1, 0x80, 0xc2, 0, 0, 15}, number(3), 38), 1, DropReserved},
	} {
		before := s.Counters().Drops[c.why]
		if v := tell(t, s, 1, c.frame, c.in); v.Reason != c.why {
			t.Errorf("%s: %+v, want %v", c.name, v, c.why)
		}
		if got := s.Counters().Drops[c.why]; got != before+1 {
			t.Errorf("%s: counter %v went from %d to %d", c.name, c.why, before, got)
		}
	}
	if got := s.MACs(); len(got) != 0 {
		t.Errorf("learnt %v from dropped frames", got)
	}
	want(t, "next after reserved", tell(t, s, 1, frameOf(MAC{1, 0x80, 0xc2, 0, 0, 16}, number(3), 38), 1), 2, 3, 4)
	alone := NewSwitch(Config{})
	alone.AddPort(1, Local)
	if v := tell(t, alone, 1, good, 1); v.Reason != DropNoPort {
		t.Errorf("alone: %+v", v)
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range DropReasons + 1 {
		if name := r.String(); name == "" || seen[name] {
			t.Errorf("reason %d is called %q", r, name)
		} else {
			seen[name] = true
		}
	}
	if Local.String() != "local" || Remote.String() != "remote" || Group.String() != "group" || Drop.String() != "drop" {
		t.Error("names of kinds or actions")
	}
}

// A MAC that moves is followed with its first frame, whichever way.
func TestMove(t *testing.T) {
	s := trio(Config{})
	for i, p := range []Port{1, 3, 4, 2, 1} {
		tell(t, s, 5, frameOf(MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, number(1), EtherTypeARP), p)
		if got := learnt(s)[number(1)]; got != p || s.Counters().Moved != uint64(i) {
			t.Errorf("on port %d: found on %d, %d moves", p, got, s.Counters().Moved)
		}
	}
}

func TestRemovePort(t *testing.T) {
	s := trio(Config{})
	for p := Port(1); p <= 4; p++ {
		tell(t, s, 1, frameOf(number(0), number(int(p)), EtherTypeARP), p)
	}
	old := s.Decide(1, frameOf(number(0), number(1), EtherTypeARP), 1)
	s.RemovePort(3)
	s.RemovePort(3)
	s.RemovePort(9)
	want(t, "its MAC", tell(t, s, 1, frameOf(number(3), number(1), EtherTypeARP), 1), 2, 4)
	want(t, "another's MAC", tell(t, s, 1, frameOf(number(4), number(1), EtherTypeARP), 1), 4)
	want(t, "a verdict kept", old, 2, 3, 4)
	s.AddPort(3, Local)
	s.AddPort(4, Local) // was remote: counts as a new port
	want(t, "back", tell(t, s, 1, frameOf(number(3), number(1), EtherTypeARP), 1), 2, 3, 4)
	want(t, "from it", tell(t, s, 1, frameOf(number(0), number(3), EtherTypeARP), 3), 1, 2, 4)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	s := trio(Config{})
	engage(s, 10)
	everybody := MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for name, f := range map[string][]byte{
		"known unicast":   frameOf(number(3), number(1), EtherTypeIPv4),
		"unknown unicast": frameOf(number(50), number(1), EtherTypeIPv4),
		"broadcast":       frameOf(everybody, number(1), EtherTypeARP),
		"tagged":          tagged(frameOf(everybody, number(1), EtherTypeARP), EtherTypeVLAN, 3),
		"known group":     data(g4(1), number(1)),
		"unknown group":   data(g4(11), number(1)),
		"ipv6 group":      data(g6(1), number(1)),
		"link scope":      data(allNodes, number(1)),
		"same port":       frameOf(number(1), number(1), EtherTypeIPv4),
		"malformed":       {1, 2, 3},
	} {
		if n := testing.AllocsPerRun(100, func() { sink = s.Decide(20, f, 1) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	n := byte(0)
	f := frameOf(everybody, number(1), EtherTypeARP)
	if got := testing.AllocsPerRun(100, func() { n++; f[11] = n; sink = s.Decide(20, f, 1) }); got != 0 {
		t.Errorf("new sources: %v allocations", got)
	}
}
