package stack

import (
	"cmp"
	"maps"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// oracle is the switch as one would write it with no thought of speed: maps, and every set worked out for each frame. It is told what a
// frame means and never sees its bytes, so the parsers are checked as well.
type oracle struct {
	capacity, maxGroups int
	maxAge              int
	limits              PortLimits
	flooded             map[oracleFlood]uint32
	ports               map[Port]PortKind
	macs                map[MAC]Entry
	domains             map[[2]int]*oracleDomain // VLAN, family
	counted             Counters
}

// oracleFlood is what is limited: floods of one kind from a port in a second.
type oracleFlood struct {
	in        Port
	now       int
	multicast bool
}

type oracleDomain struct {
	until   int
	asked   map[Port]int
	sure    map[Port]bool
	routers map[Port]int
	members map[groupAddr]map[Port]int
}

func (o *oracle) domain(vlan int, six bool) *oracleDomain {
	key := [2]int{vlan, 4}
	if six {
		key[1] = 6
	}
	if o.domains[key] == nil {
		o.domains[key] = &oracleDomain{
			asked: map[Port]int{}, sure: map[Port]bool{}, routers: map[Port]int{}, members: map[groupAddr]map[Port]int{},
		}
	}
	return o.domains[key]
}

func (o *oracle) removePort(p Port) {
	delete(o.ports, p)
	maps.DeleteFunc(o.flooded, func(f oracleFlood, _ uint32) bool { return f.in == p })
	maps.DeleteFunc(o.macs, func(_ MAC, e Entry) bool { return e.Port == p })
	for _, d := range o.domains {
		delete(d.asked, p)
		delete(d.sure, p)
		delete(d.routers, p)
		for g, members := range d.members {
			delete(members, p)
			if len(members) == 0 {
				delete(d.members, g)
			}
		}
	}
}

func (o *oracle) age(now int) {
	maps.DeleteFunc(o.macs, func(_ MAC, e Entry) bool { return now >= int(e.Seen)+o.maxAge })
	over := func(_ Port, end int) bool { return now >= end }
	for key, d := range o.domains {
		for p, at := range d.asked {
			d.sure[p] = d.sure[p] || now >= at
		}
		if now >= d.until {
			clear(d.asked)
			clear(d.sure)
		}
		maps.DeleteFunc(d.routers, over)
		for g, members := range d.members {
			maps.DeleteFunc(members, over)
			if len(members) == 0 {
				delete(d.members, g)
			}
		}
		if len(d.asked)+len(d.routers)+len(d.members) == 0 {
			delete(o.domains, key)
		}
	}
}

func (o *oracle) learn(src MAC, in Port, now int) {
	e, known := o.macs[src]
	behind := 0
	for _, e := range o.macs {
		if e.Port == in {
			behind++
		}
	}
	switch {
	case o.limits.MACs > 0 && o.ports[in] == Local && behind >= int(o.limits.MACs) && e.Port != in:
		o.counted.NotLearnt++
		return
	case known && e.Port != in:
		o.counted.Moved++
	case !known && len(o.macs) == o.capacity:
		o.counted.NotLearnt++
		return
	}
	o.macs[src] = Entry{MAC: src, Port: in, Seen: Stamp(now)}
}

// reach lists the ports a frame may go to, of those that are wanted.
func (o *oracle) reach(in Port, wanted func(Port) bool) []Port {
	var out []Port
	for p, kind := range o.ports {
		if p != in && (o.ports[in] == Local || kind == Local) && wanted(p) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// meaning is a frame as the oracle is told of it.
type meaning struct {
	what   string // "unicast", "broadcast", "query", "report", "records", "leave", "pim", "bad", "data"
	dst    MAC
	src    MAC
	vlan   int
	six    bool
	resp   int
	groups []groupAddr // data, report: one; records: those joined
}

// outcome is a verdict in plain terms.
type outcome struct {
	Action Action
	Reason DropReason
	Ports  []Port
}

func (o *oracle) spread(ports []Port, action Action, why DropReason) outcome {
	if len(ports) == 0 {
		o.counted.Drops[why]++
		return outcome{Reason: why}
	}
	return outcome{Action: action, Ports: ports}
}

func (o *oracle) decide(now int, m meaning, in Port) outcome {
	if o.ports[in] == 0 {
		return o.spread(nil, Drop, DropUnknownPort)
	}
	if m.src == (MAC{}) || m.src.IsMulticast() {
		return o.spread(nil, Drop, DropBadSource)
	}
	if m.what == "reserved" {
		return o.spread(nil, Drop, DropReserved)
	}
	o.learn(m.src, in, now)
	everywhere := o.reach(in, func(Port) bool { return true })
	flood := func() outcome {
		f := oracleFlood{in: in, now: now, multicast: m.what != "unicast" && m.what != "broadcast"}
		limit := o.limits.Broadcasts
		if f.multicast {
			limit = o.limits.Multicasts
		}
		if o.ports[in] == Local && limit > 0 {
			if o.flooded[f] == limit {
				return o.spread(nil, Drop, DropStorm)
			}
			o.flooded[f]++
		}
		return o.spread(everywhere, Flood, DropNoPort)
	}
	if m.what == "unicast" {
		e, known := o.macs[m.dst]
		switch {
		case !known || now >= int(e.Seen)+o.maxAge:
			return flood()
		case e.Port == in:
			return o.spread(nil, Drop, DropSamePort)
		case o.ports[in] == Remote && o.ports[e.Port] == Remote:
			return o.spread(nil, Drop, DropHorizon)
		}
		return outcome{Action: Unicast, Ports: []Port{e.Port}}
	}
	if m.what == "broadcast" {
		return flood()
	}
	return o.multicast(now, m, in, flood)
}

func (o *oracle) multicast(now int, m meaning, in Port, flood func() outcome) outcome {
	d := o.domain(m.vlan, m.six)
	switch m.what {
	case "bad":
		if m.six {
			o.counted.BadMLD++
		} else {
			o.counted.BadIGMP++
		}
	case "query":
		if now >= d.until {
			clear(d.asked)
			clear(d.sure)
		}
		for p := range o.ports {
			if _, is := d.asked[p]; !is {
				d.asked[p] = now + m.resp + 1
			}
		}
		d.until, d.routers[in] = now+255, now+255
	case "pim":
		d.routers[in] = now + 255
	case "report", "records":
		for _, g := range m.groups {
			o.join(d, g, in, now)
		}
	}
	switch {
	case (m.what == "report" || m.what == "leave") && len(d.routers) > 0:
		return o.spread(o.reach(in, func(p Port) bool { return o.ports[p] == Remote || d.routers[p] > 0 }), Group, DropNoRouter)
	case m.what == "data" && now < d.until && len(d.members[m.groups[0]]) > 0:
		return o.spread(o.reach(in, func(p Port) bool {
			return d.members[m.groups[0]][p] > 0 || d.routers[p] > 0 || !d.sure[p]
		}), Group, DropNoMember)
	}
	return flood()
}

func (o *oracle) join(d *oracleDomain, g groupAddr, in Port, now int) {
	if d.members[g] == nil {
		all := 0
		for _, other := range o.domains {
			all += len(other.members)
		}
		if all >= o.maxGroups {
			o.counted.GroupsRefused++
			return
		}
		d.members[g] = map[Port]int{}
	}
	d.members[g][in] = now + 260
}

// drawFrame makes a frame and what it means.
func drawFrame(t *rapid.T) ([]byte, meaning) {
	station := rapid.IntRange(0, 12)
	m := meaning{
		what: rapid.SampledFrom([]string{
			"unicast", "unicast", "unicast", "broadcast", "reserved", "query", "query", "report", "report", "records", "leave", "pim",
			"bad", "data", "data", "data",
		}).Draw(t, "what"),
		dst: number(station.Draw(t, "dst")), src: number(station.Draw(t, "src")),
		six: rapid.Bool().Draw(t, "six"), resp: rapid.IntRange(1, 12).Draw(t, "resp"),
	}
	if rapid.IntRange(0, 30).Draw(t, "odd source") == 0 {
		m.src = rapid.SampledFrom([]MAC{{}, {1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}).Draw(t, "source")
	}
	f := m.frame(t)
	for range rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 1, 2}).Draw(t, "tags") {
		tag := rapid.IntRange(0, 1).Draw(t, "vlan")
		f = tagged(f, rapid.SampledFrom([]uint16{EtherTypeVLAN, EtherTypeQinQ}).Draw(t, "tpid"), uint16(0x6000|tag))
	}
	m.vlan = int(Frame(f).VLAN())
	return f, m
}

func (m *meaning) frame(t *rapid.T) []byte {
	drawGroup := func() groupAddr {
		n := rapid.SampledFrom([]int{1, 1, 1, 2, 2, 3, 4}).Draw(t, "group")
		if m.six {
			return g6(n)
		}
		return g4(n)
	}
	switch m.what {
	case "unicast":
		return frameOf(m.dst, m.src, EtherTypeIPv4, 1, 2, 3)
	case "broadcast":
		return frameOf(MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, m.src, EtherTypeIPv4)
	case "reserved":
		return frameOf(MAC{1, 0x80, 0xc2, 0, 0, byte(rapid.IntRange(0, 15).Draw(t, "reserved"))}, m.src, 38)
	case "query":
		return query(m.six, m.src, m.resp)
	case "pim":
		return hello(m.six, m.src)
	case "records":
		var recs []record
		for range rapid.IntRange(1, 4).Draw(t, "records") {
			r := record{rapid.SampledFrom([]byte{1, 2, 3, 4, 5, 6}).Draw(t, "kind"), rapid.IntRange(0, 2).Draw(t, "sources"), drawGroup()}
			if slices.Contains([]byte{2, 4}, r.kind) || slices.Contains([]byte{1, 3, 5}, r.kind) && r.sources > 0 {
				m.groups = append(m.groups, r.group)
			}
			recs = append(recs, r)
		}
		return records(m.src, recs...)
	}
	g := drawGroup()
	m.groups = []groupAddr{g}
	switch m.what {
	case "report":
		return report(g, m.src)
	case "leave":
		return leave(g, m.src)
	case "bad":
		f := report(g, m.src)
		f[len(f)-1] ^= byte(rapid.IntRange(1, 255).Draw(t, "damage"))
		return f
	}
	return data(g, m.src)
}

// The switch gives the oracle's verdict on every frame, whatever came before.
func TestDecideEqualsOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := &oracle{
			capacity: 8, maxGroups: 4, maxAge: 600,
			ports: map[Port]PortKind{}, macs: map[MAC]Entry{}, domains: map[[2]int]*oracleDomain{},
			limits: PortLimits{
				MACs: rapid.Int32Range(0, 5).Draw(t, "MACs"), Broadcasts: rapid.Uint32Range(0, 8).Draw(t, "broadcasts"),
				Multicasts: rapid.Uint32Range(0, 5).Draw(t, "multicasts"),
			},
			flooded: map[oracleFlood]uint32{},
		}
		s := NewSwitch(Config{Capacity: 8, MaxGroups: 4, Seed: rapid.Uint64().Draw(t, "seed"), PerPort: o.limits})
		drawPort := rapid.Custom(func(t *rapid.T) Port { return Port(rapid.IntRange(1, 6).Draw(t, "port")) })
		add := func(p Port, kind PortKind) {
			if o.ports[p] != kind {
				o.removePort(p)
			}
			o.ports[p] = kind
			s.AddPort(p, kind)
		}
		add(1, Local)
		add(2, Local)
		add(3, Remote)
		now := 0
		tell := func(t *rapid.T, f []byte, m meaning, in Port) {
			v := s.Decide(Stamp(now), f, in)
			got := outcome{Action: v.Action, Reason: v.Reason, Ports: outs(v)}
			if diff := gocmp.Diff(o.decide(now, m, in), got); diff != "" {
				t.Fatalf("second %d, port %d, %+v (-oracle +switch):\n%s", now, in, m, diff)
			}
		}
		age := func(*rapid.T) { s.Age(Stamp(now)); o.age(now) }
		if rapid.Bool().Draw(t, "querier") {
			for _, six := range []bool{false, true} {
				tell(t, query(six, number(1), 10), meaning{what: "query", src: number(1), six: six, resp: 10}, 1)
			}
			now = 11
			age(t)
		}
		frames := func(t *rapid.T) {
			for range rapid.IntRange(1, 10).Draw(t, "frames") {
				f, m := drawFrame(t)
				tell(t, f, m, drawPort.Draw(t, "in"))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"frames": frames,
			"wait": func(t *rapid.T) {
				now += rapid.SampledFrom([]int{1, 2, 9, 11, 60, 130, 255, 260, 600}).Draw(t, "seconds")
				if rapid.IntRange(0, 3).Draw(t, "age") > 0 {
					age(t)
				}
			},
			"add port": func(t *rapid.T) {
				add(drawPort.Draw(t, "port"), rapid.SampledFrom([]PortKind{Local, Remote}).Draw(t, "kind"))
			},
			"drop port": func(t *rapid.T) { p := drawPort.Draw(t, "port"); s.RemovePort(p); o.removePort(p) },
			"":          func(t *rapid.T) { agree(t, s, o) },
		})
	})
}

// agree compares what the two know.
func agree(t *rapid.T, s *Switch, o *oracle) {
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	got := s.MACs()
	byMAC := func(a, b Entry) int { return cmp.Compare(a.MAC.bits(), b.MAC.bits()) }
	slices.SortFunc(got, byMAC)
	if diff := gocmp.Diff(slices.SortedFunc(maps.Values(o.macs), byMAC), got); diff != "" {
		t.Fatalf("MACs (-oracle +switch):\n%s", diff)
	}
	if diff := gocmp.Diff(o.counted, s.Counters()); diff != "" {
		t.Fatalf("counters (-oracle +switch):\n%s", diff)
	}
}
