package stack

import "testing"

// both runs a test for each family.
func both(t *testing.T, run func(t *testing.T, six bool, g func(int) groupAddr)) {
	t.Run("ipv4", func(t *testing.T) { run(t, false, g4) })
	t.Run("ipv6", func(t *testing.T) { run(t, true, g6) })
}

// From no querier to one, to members known, to the querier gone.
func TestGroupLife(t *testing.T) {
	both(t, func(t *testing.T, six bool, g func(int) groupAddr) {
		s := trio(Config{})
		s.AddPort(5, Local)
		want(t, "report, no querier", tell(t, s, 100, report(g(1), number(1)), 1), 2, 3, 4, 5)
		want(t, "data, no querier", tell(t, s, 100, data(g(1), number(5)), 5), 1, 2, 3, 4)
		want(t, "query", tell(t, s, 110, query(six, number(2), 10), 2), 1, 3, 4, 5)
		want(t, "report", tell(t, s, 111, report(g(1), number(1)), 1), 2, 3, 4)
		want(t, "report from a peer", tell(t, s, 111, report(g(1), number(3)), 3), 2)
		want(t, "data before all could answer", tell(t, s, 119, data(g(1), number(5)), 5), 1, 2, 3, 4)
		s.Age(120)
		want(t, "data at the edge", tell(t, s, 120, data(g(1), number(5)), 5), 1, 2, 3, 4)
		s.Age(121)
		want(t, "data", tell(t, s, 121, data(g(1), number(5)), 5), 1, 2, 3)
		want(t, "data from a member", tell(t, s, 121, data(g(1), number(1)), 1), 2, 3)
		want(t, "data from a peer", tell(t, s, 121, data(g(1), number(4)), 4), 1, 2)
		want(t, "data from a peer that is a member", tell(t, s, 121, data(g(1), number(3)), 3), 1, 2)
		want(t, "unknown group", tell(t, s, 121, data(g(2), number(5)), 5), 1, 2, 3, 4)
		want(t, "another VLAN", tell(t, s, 121, tagged(data(g(1), number(5)), EtherTypeVLAN, 7), 5), 1, 2, 3, 4)
		want(t, "leave", tell(t, s, 122, leave(g(1), number(1)), 1), 2, 3, 4)
		want(t, "data after a leave", tell(t, s, 122, data(g(1), number(5)), 5), 1, 2, 3)
		want(t, "data, querier at its last", tell(t, s, 364, data(g(1), number(5)), 5), 1, 2, 3)
		want(t, "data, querier gone", tell(t, s, 365, data(g(1), number(5)), 5), 1, 2, 3, 4)
		s.Age(371)
		if got := len(s.plan.Load().segments); got != 0 {
			t.Errorf("%d segments left when all is over", got)
		}
	})
}

// Members that stop answering are forgotten while the querier goes on; a group without members is unknown again.
func TestMembersTimeOut(t *testing.T) {
	both(t, func(t *testing.T, six bool, g func(int) groupAddr) {
		s := trio(Config{})
		for now := Stamp(0); now <= 500; now += 125 {
			tell(t, s, now, query(six, number(2), 10), 2)
			if now == 0 {
				tell(t, s, 1, report(g(1), number(1)), 1)
				tell(t, s, 1, report(g(2), number(4)), 4)
			}
			tell(t, s, now+1, report(g(1), number(3)), 3)
			s.Age(now + 20)
		}
		want(t, "one member left", tell(t, s, 520, data(g(1), number(2)), 2), 3)
		want(t, "no member left", tell(t, s, 520, data(g(2), number(2)), 2), 1, 3, 4)
		if v := tell(t, s, 520, data(g(1), number(4)), 4); v.Action != Group {
			t.Errorf("from a peer, for the router: %+v", v)
		}
	})
}

// Version 3 reports go everywhere, for they silence nobody; only records that tell of a member count.
func TestRecords(t *testing.T) {
	both(t, func(t *testing.T, six bool, g func(int) groupAddr) {
		s := trio(Config{})
		s.AddPort(5, Local)
		tell(t, s, 1, query(six, number(2), 10), 2)
		want(t, "report", tell(t, s, 2, records(number(1),
			record{recordIsInclude, 1, g(1)}, record{recordIsExclude, 0, g(2)}, record{recordToInclude, 2, g(3)},
			record{recordToExclude, 1, g(4)}, record{recordAllow, 1, g(5)},
			record{recordIsInclude, 0, g(6)}, record{recordToInclude, 0, g(7)}, record{6, 1, g(8)}, record{99, 1, g(9)}), 1), 2, 3, 4, 5)
		s.Age(20)
		for n := 1; n <= 9; n++ {
			to := []Port{1, 2}
			if n > 5 {
				to = []Port{1, 2, 3, 4}
			}
			want(t, g(n).String(), tell(t, s, 20, data(g(n), number(5)), 5), to...)
		}
	})
}

// A port that comes later gets everything until it was asked and had the time to answer.
func TestLatePort(t *testing.T) {
	s := trio(Config{})
	engage(s, 1)
	want(t, "members and router", tell(t, s, 20, data(g4(0), number(1)), 1), 2, 3)
	s.AddPort(6, Remote)
	s.Age(50)
	want(t, "with the new one", tell(t, s, 50, data(g4(0), number(1)), 1), 2, 3, 6)
	tell(t, s, 126, query(false, number(99), 10), 2)
	tell(t, s, 127, report(g4(0), number(3)), 3)
	want(t, "asked", tell(t, s, 127, data(g4(0), number(1)), 1), 2, 3, 6)
	s.Age(137)
	want(t, "silent", tell(t, s, 137, data(g4(0), number(1)), 1), 2, 3)
	s.RemovePort(3)
	s.AddPort(3, Remote)
	want(t, "another behind the same number", tell(t, s, 138, data(g4(0), number(1)), 1), 2, 3)
}

// Ports with a router behind them get every group and all reports; PIM makes one.
func TestRouterPorts(t *testing.T) {
	both(t, func(t *testing.T, six bool, g func(int) groupAddr) {
		s := trio(Config{})
		s.AddPort(5, Local)
		tell(t, s, 1, query(six, number(4), 10), 4)
		tell(t, s, 2, report(g(1), number(1)), 1)
		s.Age(20)
		if v := tell(t, s, 20, report(g(1), number(3)), 3); v.Reason != DropNoRouter {
			t.Errorf("report where no local router is: %+v", v)
		}
		want(t, "hello", tell(t, s, 21, hello(six, number(5)), 5), 1, 2, 3, 4)
		want(t, "report to it", tell(t, s, 22, report(g(1), number(3)), 3), 5)
		want(t, "data to it", tell(t, s, 22, data(g(1), number(2)), 2), 1, 3, 4, 5)
		tell(t, s, 250, query(six, number(4), 10), 4)
		tell(t, s, 251, report(g(1), number(1)), 1)
		s.Age(276)
		want(t, "data when it is gone", tell(t, s, 276, data(g(1), number(2)), 2), 1, 3, 4)
	})
}

// What is always flooded, whatever is known.
func TestAlwaysFlooded(t *testing.T) {
	s := trio(Config{})
	engage(s, 1)
	bad := report(g4(0), number(1))
	bad[len(bad)-1]++
	mac := data(g4(0), number(1))
	mac[5]++
	short := data(g4(0), number(1))[:HeaderLen+19]
	for name, f := range map[string][]byte{
		"224.0.0.251":          data(group4([]byte{224, 0, 0, 251}), number(1)),
		"all nodes":            data(allNodes, number(1)),
		"solicited node":       data(groupAddr{0: 0xff, 1: 2, 11: 1, 12: 0xff, 15: 9}, number(1)),
		"interface-local":      data(groupAddr{0: 0xff, 1: 1, 15: 9}, number(1)),
		"query":                query(false, number(1), 10),
		"bad checksum":         bad,
		"mac of another group": mac,
		"cut header":           short,
		"not IP":               frameOf(groupMAC(g4(0)), number(1), 0x88b5, 1, 2, 3),
		"link-local, not IP":   frameOf(MAC{1, 0x80, 0xc2, 0, 0, 0x21}, number(1), 0x88b5),
	} {
		if v := tell(t, s, 20, f, 1); v.Action != Flood {
			t.Errorf("%s: %v", name, v.Action)
		}
	}
	if c := s.Counters(); c.BadIGMP != 1 || c.BadMLD != 0 {
		t.Errorf("counters %+v", c)
	}
}

// More groups and VLANs than there is room for are flooded and counted.
func TestGroupBounds(t *testing.T) {
	s := trio(Config{MaxGroups: 3})
	engage(s, 5) // two reports of each
	if c := s.Counters(); c.GroupsRefused != 4 {
		t.Errorf("refused %d", c.GroupsRefused)
	}
	want(t, "the last with room", tell(t, s, 20, data(g4(2), number(1)), 1), 2, 3)
	want(t, "the first without", tell(t, s, 20, data(g4(3), number(1)), 1), 2, 3, 4)
	for vlan := range uint16(maxSegments + 10) {
		tell(t, s, 20, tagged(query(false, number(9), 10), EtherTypeVLAN, vlan), 2)
	}
	if got := len(s.plan.Load().segments); got != maxSegments {
		t.Errorf("%d segments", got)
	}
	tell(t, s, 20, tagged(report(g4(0), number(9)), EtherTypeVLAN, maxSegments+5), 2)
	if c := s.Counters(); c.GroupsRefused != 5 {
		t.Errorf("refused %d", c.GroupsRefused)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
}
