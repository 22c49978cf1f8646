package runtime

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestExposeRules(t *testing.T) {
	both := []Exposure{
		{Prefix: netip.MustParsePrefix("10.32.0.1/12"), Masquerade: true},
		{Prefix: netip.MustParsePrefix("10.9.0.1/24")},
		{Prefix: netip.MustParsePrefix("fd00::1/108"), Masquerade: true},
		{Prefix: netip.MustParsePrefix("10.32.0.2/12"), Masquerade: true}, // a second address of a subnet
	}
	ports := func(list ...string) (out []netip.AddrPort) {
		for _, s := range list {
			out = append(out, netip.MustParseAddrPort(s))
		}
		return out
	}
	services := []Forwarding{
		{Proto: "tcp", At: ports("0.0.0.0:8080")[0], Targets: ports("10.32.0.5:80", "10.32.0.6:80", "[fd00::5]:80", "10.32.0.7:81")},
		{Proto: "tcp", At: ports("[::]:8080")[0], Targets: ports("10.32.0.5:80", "[fd00::5]:80")},
		{Proto: "udp", At: ports("10.32.0.1:53")[0], Targets: ports("192.168.1.1:53")},
		{Proto: "udp", At: ports("10.32.0.1:54")[0]},
	}
	for name, rules := range map[string][]Rule{
		"rules-of-nothing": ExposeRules("weave", nil), "rules": ExposeRules("weave", both), "rules-of-services": ForwardRules("weave", both, services),
	} {
		var got strings.Builder
		for _, r := range rules {
			got.WriteString(r.String() + "   # " + r.Label + "\n")
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
			t.Error(name, diff)
		}
	}
}

func genExposed() *rapid.Generator[[]Exposure] {
	return rapid.Custom(func(t *rapid.T) []Exposure {
		var out []Exposure
		for _, p := range genAddresses().Draw(t, "addresses") {
			out = append(out, Exposure{Prefix: p, Masquerade: rapid.Bool().Draw(t, "masquerade")})
		}
		return out
	})
}

func genLabels(rules []Rule) *rapid.Generator[[]string] {
	pool := []string{"", "somebody else's"}
	for _, r := range rules {
		pool = append(pool, r.Label)
	}
	return rapid.SliceOfN(rapid.SampledFrom(pool), 0, 12)
}

// Whatever is seen: repairing what CheckFilter names leaves nothing to repair, and what it does not name was right.
func TestCheckFilterProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := ExposeRules("weave", genExposed().Draw(t, "exposed"))
		if rapid.Bool().Draw(t, "nothing wanted") {
			rules = nil
		}
		seen := PacketFilter{}
		all := ExposeRules("weave", genExposed().Draw(t, "before"))
		if rapid.Bool().Draw(t, "table") {
			seen.Own = map[Place][]string{}
			for _, place := range []Place{Postrouting, Forward} {
				seen.Own[place] = rapid.OneOf(genLabels(all), rapid.Just(labels(all, place, Inet))).Draw(t, "own")
			}
		}
		for range rapid.IntRange(0, 3).Draw(t, "others") {
			c := Chain{Place: rapid.SampledFrom([]Place{Foreign, ForeignInput}).Draw(t, "place"), Family: rapid.SampledFrom([]Family{IPv4, IPv6, Inet}).Draw(t, "family"), Closed: rapid.Bool().Draw(t, "closed")}
			c.Ours = rapid.OneOf(genLabels(all), rapid.Just(c.labels(all))).Draw(t, "ours")
			seen.Others = append(seen.Others, c)
		}
		repair := CheckFilter(rules, seen)
		if repair.Own {
			seen.Own = nil
			if len(rules) > 0 {
				seen.Own = map[Place][]string{Postrouting: labels(rules, Postrouting, Inet), Forward: labels(rules, Forward, Inet)}
			}
		}
		for _, i := range repair.Others {
			seen.Others[i].Ours = seen.Others[i].labels(rules)
		}
		if again := CheckFilter(rules, seen); !again.None() {
			t.Fatal("something is left to do: ", again)
		}
		for _, c := range seen.Others {
			if (!c.Closed || rules == nil) && len(c.Ours) > 0 {
				t.Fatal("rules where none belong: ", c)
			}
			if !c.Closed || rules == nil {
				continue
			}
			if c.Place == Foreign && !slices.Contains(c.Ours, "within") {
				t.Fatal("the bridge's own frames are dropped by ", c)
			}
			if c.Place == ForeignInput && c.Family != IPv6 && !slices.Contains(c.Ours, "names by udp") {
				t.Fatal("questions for names are dropped by ", c)
			}
		}
	})
}

// Labels tell rules of one place apart, whatever is exposed.
func TestLabelsDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seen := map[string]bool{}
		for _, r := range ExposeRules("weave", genExposed().Draw(t, "exposed")) {
			id := string(rune('0'+r.Place)) + r.Label
			if seen[id] || r.Label == "" || len(r.Label) > 64 {
				t.Fatal(r, " is called ", r.Label)
			}
			seen[id] = true
		}
	})
}

func TestConflict(t *testing.T) {
	host := []HostAddress{
		{netip.MustParsePrefix("127.0.0.1/8"), "lo"},
		{netip.MustParsePrefix("192.168.1.5/24"), "eth0"},
		{netip.MustParsePrefix("10.40.0.7/16"), "eth1"},
		{netip.MustParsePrefix("10.32.0.1/12"), "weave"},
		{netip.MustParsePrefix("10.33.0.1/32"), "lo"},
		{netip.MustParsePrefix("fd00:1::5/64"), "eth0"},
	}
	for exposed, device := range map[string]string{
		"192.168.1.9/24": "eth0", "192.168.1.9/25": "eth0", "192.168.1.5/32": "eth0", "10.40.3.1/24": "eth1", "127.1.0.1/24": "lo",
		"10.33.0.1/12": "lo", "fd00:1::9/108": "eth0",
		"192.168.1.9/16": "", "192.168.2.9/24": "", "10.32.0.2/12": "", "10.33.0.2/24": "", "fd00:2::9/64": "",
	} {
		if a, found := Conflict(netip.MustParsePrefix(exposed), "weave", host); found != (device != "") || a.Device != device {
			t.Errorf("%s: %v %v, want %q", exposed, a, found, device)
		}
	}
}

// Each target of a port gets as many connections as the others, and none is left over.
func TestForwardRulesShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Forwarding{Proto: "tcp", At: netip.MustParseAddrPort("10.0.0.1:80")}
		n := rapid.IntRange(1, 40).Draw(t, "targets")
		for i := range n {
			f.Targets = append(f.Targets, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), 80))
		}
		left := 1.0
		for _, r := range f.rules(Prerouting) {
			share := left / float64(max(r.Port.OneIn, 1))
			if share < 0.999/float64(n) || share > 1.001/float64(n) {
				t.Fatalf("%v gets %v of %d", r.To, share, n)
			}
			left -= share
		}
		if left > 1e-9 {
			t.Fatal(left, " of all connections go nowhere")
		}
	})
}
