package runtime

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFilter(t *testing.T) {
	for text, addresses := range map[string][]string{
		"none":                     {"fd00::5/64"},
		"10.2.1.0/24":              {"10.2.1.5/24", "fd00::5/64", "10.2.1.6/24"},
		"10.2.0.0/16,10.2.1.0/24":  {"10.2.1.5/24", "10.2.1.5/16"},
		"0.0.0.0/0,10.2.1.5/32":    {"10.2.1.5/32", "10.2.1.5/0"},
		"10.2.1.0/24,192.0.2.4/30": {"192.0.2.5/30", "10.2.1.5/24"},
	} {
		f := FilterFor(prefixes(addresses...))
		if got := f.String(); got != text {
			t.Errorf("%v: %s, want %s", addresses, got, text)
		}
		back, err := ParseFilter(text)
		if diff := cmp.Diff(f, back, samePfx); diff != "" || err != nil {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
	if f, err := ParseFilter("off"); err != nil || f.On || f.String() != "off" {
		t.Error(f, err)
	}
	for _, text := range []string{"", "on", "10.2.1.0", "10.2.1.0/24,", "fd00::/64", "10.2.1.0/33"} {
		if f, err := ParseFilter(text); err == nil {
			t.Errorf("%q is %+v", text, f)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	f.Add("off")
	f.Add("none")
	f.Add("10.2.1.0/24,10.3.0.0/16")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseFilter(text)
		if err != nil {
			return
		}
		back, err := ParseFilter(got.String())
		if diff := cmp.Diff(got, back, samePfx); diff != "" || err != nil {
			t.Fatal(err, diff)
		}
	})
}
