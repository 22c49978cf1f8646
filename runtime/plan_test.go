package runtime

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	box     = Identity{Dev: 4, Inode: 4026532841}
	target  = Target{Kind: ByName, Text: "box", Path: "/run/netns/box", ID: box}
	samePfx = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func attached(addresses ...string) Seen {
	return Seen{
		Present: true, Up: true, MAC: MAC{2, 1}, MTU: DefaultMTU, Addresses: prefixes(addresses...), MulticastRoute: true,
		Filter: FilterFor(prefixes(addresses...)), Port: Port{Present: true, Up: true, Master: "weave", Hairpin: true, MTU: DefaultMTU},
	}
}

// Each file in testdata says, one step a line, what is done in the case of its name.
func TestGolden(t *testing.T) {
	bridge := Bridge{Name: "weave", MAC: MAC{0x8a, 0x3e}, MTU: DefaultMTU}
	there := Bridge{Present: true, Up: true, Name: "weave", MAC: MAC{0x8a, 0x3e}, MTU: DefaultMTU}
	want := func(addresses ...string) Attachment {
		return Attachment{ID: "c", Target: target, Addresses: prefixes(addresses...), MulticastRoute: true}
	}
	torn := attached("10.2.1.5/24")
	torn.Port.Master, torn.Port.Hairpin, torn.Port.Up = "", false, false
	stale := Seen{Port: Port{Present: true, MTU: 1500}}
	unfiltered, wide := attached("10.2.1.5/24"), attached("10.2.1.5/24")
	unfiltered.Filter = Filter{}
	wide.Filter.Sources = prefixes("10.2.0.0/16")
	orphan := Seen{Filter: FilterFor(prefixes("10.2.1.5/24"))}
	cases := map[string]struct {
		want Want
		seen State
	}{
		"first-start": {
			Want{Bridge: bridge, Uplink: Uplink{Name: "vethwe-tap"}},
			State{Uplink: Uplink{Present: true, Name: "vethwe-tap", MTU: DefaultMTU}},
		},
		"adopted-bridge": {
			Want{Bridge: bridge},
			State{Bridge: Bridge{Present: true, Up: true, Name: "weave", MAC: MAC{2, 9}, MTU: 1500}},
		},
		"attach":                 {Want{Bridge: bridge, Attachments: []Attachment{want("10.2.1.5/24", "fd00::5/64")}}, State{Bridge: there}},
		"nothing":                {Want{Bridge: bridge, Attachments: []Attachment{want("10.2.1.5/24")}}, State{Bridge: there, Seen: map[Identity]Seen{box: attached("10.2.1.5/24")}}},
		"second":                 {Want{Bridge: bridge, Attachments: []Attachment{want("10.2.1.5/24", "10.3.1.5/24")}}, State{Bridge: there, Seen: map[Identity]Seen{box: attached("10.2.1.5/24")}}},
		"detach-one":             {Want{Bridge: bridge, Attachments: []Attachment{want("10.3.1.5/24")}}, State{Bridge: there, Seen: map[Identity]Seen{box: attached("10.2.1.5/24", "10.3.1.5/24")}}},
		"detach-all":             {Want{Bridge: bridge, Attachments: []Attachment{want()}}, State{Bridge: there, Seen: map[Identity]Seen{box: attached("10.2.1.5/24", "fd00::5/64")}}},
		"torn-off":               {Want{Bridge: bridge, Attachments: []Attachment{want("10.2.1.5/24")}}, State{Bridge: there, Seen: map[Identity]Seen{box: torn}}},
		"unfiltered":             {Want{Bridge: bridge, Attachments: []Attachment{want("10.2.1.5/24")}}, State{Bridge: there, Seen: map[Identity]Seen{box: unfiltered}}},
		"filter-of-other-subnet": {Want{Bridge: bridge, Attachments: []Attachment{want("10.2.1.5/24")}}, State{Bridge: there, Seen: map[Identity]Seen{box: wide}}},
		"orphan-filter":          {Want{Bridge: bridge, Attachments: []Attachment{want()}}, State{Bridge: there, Seen: map[Identity]Seen{box: orphan}}},
		"same-subnet":            {Want{Bridge: bridge, Attachments: []Attachment{want("10.2.1.5/24", "10.2.1.6/24")}}, State{Bridge: there, Seen: map[Identity]Seen{box: attached("10.2.1.5/24")}}},
		"stale-port":             {Want{Bridge: bridge, Attachments: []Attachment{want("10.2.1.5/24")}}, State{Bridge: there, Seen: map[Identity]Seen{box: stale}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			for _, s := range Diff(c.want, c.seen) {
				got.WriteString(s.String() + "\n")
			}
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(golden), got.String()); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

var (
	pool = prefixes("10.2.1.5/24", "10.2.1.6/24", "10.3.1.5/24", "10.2.1.5/16", "fd00::5/64", "fd00::6/64")
	mtus = []int{1280, DefaultMTU, 1500, 8916}
)

func genMAC(zero bool) *rapid.Generator[MAC] {
	low := byte(1)
	if zero {
		low = 0
	}
	return rapid.Custom(func(t *rapid.T) MAC {
		if n := rapid.ByteRange(low, 3).Draw(t, "mac"); n > 0 {
			return MAC{2, 0, 0, 0, 0, n}
		}
		return MAC{}
	})
}

func genAddresses() *rapid.Generator[[]netip.Prefix] {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(pool), 0, 4, func(p netip.Prefix) netip.Prefix { return p })
}

func genFilter() *rapid.Generator[Filter] {
	return rapid.Custom(func(t *rapid.T) Filter {
		if !rapid.Bool().Draw(t, "on") {
			return Filter{}
		}
		return FilterFor(genAddresses().Draw(t, "sources"))
	})
}

// genSeen draws what a namespace may show, but for leftovers of others.
func genSeen() *rapid.Generator[Seen] {
	return rapid.Custom(func(t *rapid.T) Seen {
		s := Seen{Filter: genFilter().Draw(t, "filter")} // may have outlived its interface
		if !rapid.Bool().Draw(t, "present") {
			return s
		}
		s.Present, s.Port.Present = true, true
		s.Up, s.Port.Up = rapid.Bool().Draw(t, "up"), rapid.Bool().Draw(t, "port up")
		s.MAC = genMAC(false).Draw(t, "mac")
		s.MTU, s.Port.MTU = rapid.SampledFrom(mtus).Draw(t, "mtu"), rapid.SampledFrom(mtus).Draw(t, "port mtu")
		s.Addresses = genAddresses().Draw(t, "addresses")
		s.MulticastRoute = s.Up && rapid.Bool().Draw(t, "route")
		s.Port.Master = rapid.SampledFrom([]string{"", "weave", "docker0"}).Draw(t, "master")
		s.Port.Hairpin = s.Port.Master != "" && rapid.Bool().Draw(t, "hairpin")
		return s
	})
}

func genAttachment(id Identity) *rapid.Generator[Attachment] {
	return rapid.Custom(func(t *rapid.T) Attachment {
		return Attachment{
			Target: Target{ID: id}, MAC: genMAC(true).Draw(t, "mac"), Addresses: genAddresses().Draw(t, "addresses"),
			MulticastRoute: rapid.Bool().Draw(t, "route"), MTU: rapid.SampledFrom(append(mtus, 0)).Draw(t, "mtu"),
		}
	})
}

func genState(ids []Identity) *rapid.Generator[State] {
	return rapid.Custom(func(t *rapid.T) State {
		s := State{Seen: map[Identity]Seen{}}
		if rapid.Bool().Draw(t, "bridge") {
			s.Bridge = Bridge{Present: true, Name: "weave", Up: rapid.Bool().Draw(t, "up"), MAC: genMAC(false).Draw(t, "mac"), MTU: rapid.SampledFrom(mtus).Draw(t, "mtu")}
		}
		if rapid.Bool().Draw(t, "uplink") {
			s.Uplink = Uplink{Present: true, Name: "tap", Up: rapid.Bool().Draw(t, "up"), MTU: rapid.SampledFrom(mtus).Draw(t, "mtu")}
			s.Uplink.Master = rapid.SampledFrom([]string{"", "weave", "docker0"}).Draw(t, "master")
		}
		for _, id := range ids {
			if seen := genSeen().Draw(t, "seen"); seen.Present || seen.Filter.On {
				s.Seen[id] = seen
			}
		}
		return s
	})
}

// Whatever is seen and whatever is wanted: the steps are possible, lead to exactly what is wanted, leave nothing to do,
// touch nothing else, and taken back from any point lead to the start.
func TestPlanProperty(t *testing.T) {
	ids := []Identity{{4, 1}, {4, 2}, {4, 3}}
	rapid.Check(t, func(rt *rapid.T) {
		start := genState(ids).Draw(rt, "state")
		want := Want{
			Bridge: Bridge{Name: "weave", MAC: genMAC(true).Draw(rt, "mac"), MTU: rapid.SampledFrom(append(mtus, 0)).Draw(rt, "mtu")},
			Uplink: Uplink{Name: "tap"},
		}
		for _, id := range ids[:2] {
			want.Attachments = append(want.Attachments, genAttachment(id).Draw(rt, "want"))
		}
		steps := Diff(want, start)
		for i := range len(steps) + 1 {
			w := newWorld(start)
			w.run(t, steps[:i])
			w.run(t, Undo(steps[:i]))
			same(rt, start, w.State, "undone after %d steps", i)
		}
		w := newWorld(start)
		w.run(t, steps)
		for _, a := range want.Attachments {
			fulfilled(rt, a, w.Seen[a.Target.ID])
		}
		if again := Diff(want, w.State); len(again) != 0 {
			rt.Fatal("something is left to do: ", again)
		}
		if diff := cmp.Diff(start.Seen[ids[2]], w.Seen[ids[2]], samePfx); diff != "" {
			rt.Fatal("a namespace that nobody named was changed: ", diff)
		}
	})
}

func same(t *rapid.T, want, got State, format string, args ...any) {
	sorted := cmp.Transformer("sorted", func(l []netip.Prefix) []string {
		var out []string
		for _, p := range l {
			out = append(out, p.String())
		}
		slices.Sort(out)
		return out
	})
	if diff := cmp.Diff(want, got, sorted); diff != "" {
		t.Fatalf(format+": %s", append(args, diff)...)
	}
}

func fulfilled(t *rapid.T, a Attachment, s Seen) {
	if len(a.Addresses) == 0 {
		if s.Present || s.Port.Present || s.Filter.On {
			t.Fatal("still there")
		}
		return
	}
	mtu := a.MTU
	if mtu == 0 {
		mtu = DefaultMTU
	}
	ok := s.Present && s.Up && s.MTU == mtu && s.MulticastRoute == a.MulticastRoute && (a.MAC.IsZero() || a.MAC == s.MAC) &&
		len(s.Addresses) == len(a.Addresses) && len(Remove(a.Addresses, s.Addresses)) == 0 &&
		s.Filter.String() == FilterFor(a.Addresses).String() &&
		s.Port == Port{Present: true, Up: true, Master: "weave", Hairpin: true, MTU: mtu}
	if !ok {
		t.Fatalf("want %+v, is %+v", a, s)
	}
}
