package peer

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// recordPool signs a few competing records of a few peers once, because
// signing is what costs.
func recordPool() []Signed {
	var pool []Signed
	for p := range byte(4) {
		for _, version := range []uint64{1, 2} {
			for _, uid := range []uint64{1, 2} {
				for _, nick := range []string{"a", "b"} {
					id := testIdentity(p)
					pool = append(pool, id.SignRecord(Record{
						Name: Name{2, 0, 0, 0, 0, p}, Key: id.PublicKey(), Version: version, UID: uid, Nickname: nick,
					}))
				}
			}
		}
	}
	return pool
}

func equalTopologies(a, b *Topology) bool {
	return slices.EqualFunc(a.Snapshot(), b.Snapshot(), func(x, y Signed) bool { return x.Compare(y) == 0 })
}

func TestMergeLaws(t *testing.T) {
	pool := recordPool()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) []Signed {
			return rapid.SliceOfN(rapid.SampledFrom(pool), 0, 12).Draw(t, label)
		}
		x, y, z := draw("x"), draw("y"), draw("z")
		merged := func(deltas ...[]Signed) *Topology {
			var m Topology
			for _, d := range deltas {
				if _, err := m.Merge(d); err != nil {
					t.Fatal(err)
				}
			}
			return &m
		}
		if !equalTopologies(merged(x, y), merged(y, x)) {
			t.Fatal("not commutative")
		}
		if !equalTopologies(merged(merged(x, y).Snapshot(), z), merged(x, merged(y, z).Snapshot())) {
			t.Fatal("not associative")
		}
		once := merged(x)
		before := once.Snapshot()
		news, err := once.Merge(before)
		if err != nil || len(news) != 0 || !equalTopologies(once, merged(x, x)) {
			t.Fatalf("not idempotent: %d news, %v", len(news), err)
		}
		// News are exactly what changed.
		news, _ = once.Merge(y)
		if !equalTopologies(once, merged(before, news)) {
			t.Fatal("news do not carry the whole change")
		}
	})
}

func TestMergeRefusesUnverified(t *testing.T) {
	s := testIdentity(1).SignRecord(goldenRecord())
	parsed, err := parseSigned(s.Wire())
	if err != nil {
		t.Fatal(err)
	}
	var m Topology
	if news, err := m.Merge([]Signed{parsed}); err == nil || len(news) != 0 || m.Len() != 0 {
		t.Errorf("news %v, err %v", news, err)
	}
}

// drawRecords makes records of n peers with random links; a link may be known
// to one end only, or not be established at one.
func drawRecords(t *rapid.T, n int) []Signed {
	out := make([]Signed, n)
	for i := range out {
		out[i].Record.Name = Name{2, 0, 0, 0, 0, byte(i)}
		var links []Link
		for j := range n {
			if i != j && rapid.IntRange(0, 3).Draw(t, fmt.Sprintf("link %d-%d", i, j)) > 1 {
				links = append(links, Link{
					Peer:        Name{2, 0, 0, 0, 0, byte(j)},
					Established: rapid.IntRange(0, 5).Draw(t, "established") > 0,
					RTT:         time.Duration(rapid.IntRange(0, 3).Draw(t, "rtt")) * time.Millisecond,
				})
			}
		}
		out[i].Record.Links = MakeLinks(links...)
	}
	return out
}

func viewsOf(records []Signed) []*PeerView {
	var out []*PeerView
	for i := range records {
		out = append(out, peerView(&records[i]))
	}
	return out
}

// drawRoutes makes old routes that may be nonsense.
func drawRoutes(t *rapid.T, records []Signed) map[Name]Route {
	out := make(map[Name]Route)
	for i := range records {
		via := rapid.IntRange(0, len(records)).Draw(t, "old via")
		if via < len(records) {
			out[records[i].Record.Name] = Route{Via: records[via].Record.Name}
		}
	}
	return out
}

const never = time.Duration(1) << 60

// floydWarshall is the oracle: all distances over links both ends confirm.
func floydWarshall(records []Signed) [][]time.Duration {
	n := len(records)
	rtt := func(i, j int) time.Duration {
		for l := range records[i].Record.Links.All() {
			if l.Peer == records[j].Record.Name && l.Established {
				return l.RTT
			}
		}
		return never
	}
	d := make([][]time.Duration, n)
	for i := range d {
		d[i] = make([]time.Duration, n)
		for j := range d[i] {
			d[i][j] = never
			if a, b := rtt(i, j), rtt(j, i); i == j {
				d[i][j] = 0
			} else if a != never && b != never {
				d[i][j] = (a+b)/2 + hopCost
			}
		}
	}
	for k := range n {
		for i := range n {
			for j := range n {
				d[i][j] = min(d[i][j], d[i][k]+d[k][j])
			}
		}
	}
	return d
}

func TestRoutesAreShortestAndLoopFree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "n")
		records := drawRecords(t, n)
		g := dataGraph(viewsOf(records))
		want := floydWarshall(records)
		all := make([]map[Name]Route, n)
		for i := range n {
			all[i] = g.routesFrom(records[i].Record.Name, drawRoutes(t, records))
			tree := g.shortest(i)
			for j := range n {
				if reached := tree.parent[j] >= 0; reached != (want[i][j] < never) || reached && tree.dist[j] != want[i][j] {
					t.Fatalf("distance %d-%d: %v, want %v", i, j, tree.dist[j], want[i][j])
				}
			}
		}
		for i := range n {
			for j := range n {
				checkUnicast(t, records, all, want, i, j)
			}
			checkBroadcast(t, records, g, want, i)
		}
	})
}

// checkUnicast follows the route hop by hop: each hop must come nearer.
func checkUnicast(t *rapid.T, records []Signed, all []map[Name]Route, want [][]time.Duration, from, to int) {
	for at := from; at != to; {
		r, ok := all[at][records[to].Record.Name]
		via := r.Via
		if ok != (want[at][to] < never) {
			t.Fatalf("route %d-%d: %v", at, to, ok)
		}
		if !ok {
			return
		}
		next := int(via[5])
		if want[next][to] >= want[at][to] || want[at][next] >= never {
			t.Fatalf("route %d-%d via %d comes no nearer", at, to, next)
		}
		at = next
	}
}

// checkBroadcast floods from one peer: all it can reach get it once.
func checkBroadcast(t *rapid.T, records []Signed, g *graph, want [][]time.Duration, from int) {
	got := make([]int, len(records))
	queue := []int{from}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		if got[at]++; got[at] > 1 {
			t.Fatalf("broadcast of %d arrives twice at %d", from, at)
		}
		to, _ := g.broadcast(records[at].Record.Name, records[from].Record.Name)
		for _, next := range to {
			queue = append(queue, int(next[5]))
		}
	}
	for j := range records {
		if (got[j] == 1) != (want[from][j] < never) {
			t.Fatalf("broadcast of %d arrives %d times at %d", from, got[j], j)
		}
	}
}

func TestReachableFollowsWhoIsListed(t *testing.T) {
	var topo Topology
	add := func(n byte, links ...byte) {
		id := testIdentity(n)
		list := make([]Link, len(links))
		for i, l := range links {
			list[i].Peer = Name{2, 5: l}
		}
		r := Record{Name: Name{2, 5: n}, Key: id.PublicKey(), Version: 1, Links: MakeLinks(list...)}
		if _, err := topo.Merge([]Signed{id.SignRecord(r)}); err != nil {
			t.Fatal(err)
		}
	}
	add(1, 2)
	add(2, 1, 3)
	add(3, 9) // 9 has no record
	add(4, 1) // lists us, nobody lists it: dead
	topo.walk([]Name{{2, 5: 1}})
	if topo.reached != 3 || topo.reaches(Name{2, 5: 4}) || topo.reaches(Name{2, 5: 9}) || !topo.reaches(Name{2, 5: 3}) {
		t.Errorf("%d reachable", topo.reached)
	}
}

// TestRoutesDoNotFlap: a route stays where it is while another is only a little
// better, and moves when that is clearly better or its own way is gone.
func TestRoutesDoNotFlap(t *testing.T) {
	name := func(i byte) Name { return Name{2, 5: i} }
	link := func(to byte, rtt time.Duration) Link { return Link{Peer: name(to), Established: true, RTT: rtt} }
	route := func(viaTwo, viaThree time.Duration, old map[Name]Route) map[Name]Route {
		records := make([]Signed, 4)
		for i := range records {
			records[i].Record.Name = name(byte(i + 1))
		}
		records[0].Record.Links = MakeLinks(link(2, viaTwo), link(3, viaThree))
		records[1].Record.Links = MakeLinks(link(1, viaTwo), link(4, viaTwo))
		records[2].Record.Links = MakeLinks(link(1, viaThree), link(4, viaThree))
		records[3].Record.Links = MakeLinks(link(2, viaTwo), link(3, viaThree))
		if viaTwo == never {
			records[1].Record.Links = Links{}
		}
		return dataGraph(viewsOf(records)).routesFrom(name(1), old)
	}
	const ms = time.Millisecond
	r := route(10*ms, 12*ms, nil)
	if got := r[name(4)]; got != (Route{Via: name(2), Hops: 2, RTT: 20 * ms}) {
		t.Fatalf("%+v", got)
	}
	if r = route(11*ms, 10*ms, r); r[name(4)] != (Route{Via: name(2), Hops: 2, RTT: 22 * ms}) {
		t.Errorf("moved for a little: %+v", r[name(4)])
	}
	if moved := route(20*ms, 10*ms, r); moved[name(4)].Via != name(3) {
		t.Errorf("stayed with a much longer way: %+v", moved[name(4)])
	}
	if gone := route(never, 30*ms, r); gone[name(4)].Via != name(3) {
		t.Errorf("stayed with a way that is gone: %+v", gone[name(4)])
	}
}
