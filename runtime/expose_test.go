package runtime_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weave/runtime"
)

func TestExposeRules(t *testing.T) {
	if rules := runtime.ExposeRules("weave", nil); rules != nil {
		t.Errorf("nothing exposed has %v", rules)
	}
	var got []string
	for _, r := range runtime.ExposeRules("weave", []runtime.Exposure{
		{Prefix: netip.MustParsePrefix("10.32.0.1/12"), Masquerade: true},
		{Prefix: netip.MustParsePrefix("10.9.0.1/24")},
		{Prefix: netip.MustParsePrefix("fd00::1/108"), Masquerade: true},
	}) {
		got = append(got, r.String())
	}
	want := `forward: iifname "docker0" oifname "weave" drop
foreign: iifname "weave" accept
foreign: oifname "weave" daddr 10.32.0.0/12 accept
postrouting: saddr 10.32.0.0/12 daddr 224.0.0.0/4 return
postrouting: oifname "weave" saddr != 10.32.0.0/12 daddr 10.32.0.0/12 masquerade
postrouting: saddr 10.32.0.0/12 daddr != 10.32.0.0/12 masquerade
foreign: oifname "weave" daddr 10.9.0.0/24 accept
foreign: oifname "weave" daddr fd00::/108 accept
postrouting: saddr fd00::/108 daddr ff00::/8 return
postrouting: oifname "weave" saddr != fd00::/108 daddr fd00::/108 masquerade
postrouting: saddr fd00::/108 daddr != fd00::/108 masquerade`
	if d := cmp.Diff(want, strings.Join(got, "\n")); d != "" {
		t.Error(d)
	}
}
