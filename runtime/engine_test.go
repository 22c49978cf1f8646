package runtime_test

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weave/runtime"
)

func TestWishOf(t *testing.T) {
	shim := []string{runtime.ShimPath, "sh"}
	labels := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	for name, tt := range map[string]struct {
		c       runtime.Container
		all     bool
		want    runtime.Wish
		problem string
	}{
		"nothing said":                 {},
		"all are wanted":               {all: true, want: runtime.Wish{Wanted: true}},
		"made by the proxy":            {c: runtime.Container{Entrypoint: shim}, want: runtime.Wish{Wanted: true}},
		"environment":                  {c: runtime.Container{Env: []string{"WEAVE_CIDR=net:default  10.2.1.1/24"}}, want: runtime.Wish{Wanted: true, Addresses: []string{"net:default", "10.2.1.1/24"}}},
		"the last of an environment":   {c: runtime.Container{Env: []string{"WEAVE_CIDR=none", "WEAVE_CIDR=net:default"}}, want: runtime.Wish{Wanted: true, Addresses: []string{"net:default"}}},
		"empty is the default":         {c: runtime.Container{Env: []string{"WEAVE_CIDR="}}, want: runtime.Wish{Wanted: true}},
		"none":                         {c: runtime.Container{Env: []string{"WEAVE_CIDR=none"}, Entrypoint: shim}, all: true},
		"label":                        {c: runtime.Container{Labels: labels("weave.cidr", "net:10.1.0.0/16")}, want: runtime.Wish{Wanted: true, Addresses: []string{"net:10.1.0.0/16"}}},
		"environment before label":     {c: runtime.Container{Env: []string{"WEAVE_CIDR=none"}, Labels: labels("weave.cidr", "net:default")}},
		"mark":                         {c: runtime.Container{Labels: labels("weave", "")}, want: runtime.Wish{Wanted: true}},
		"mark and names":               {c: runtime.Container{Labels: labels("weave", "true", "weave.name", "a b")}, want: runtime.Wish{Wanted: true, Names: []string{"a", "b"}}},
		"marked as unwanted":           {c: runtime.Container{Labels: labels("weave", "false"), Entrypoint: shim}, all: true},
		"bad mark":                     {c: runtime.Container{Labels: labels("weave", "maybe")}, problem: "neither true nor false"},
		"host":                         {c: runtime.Container{NetworkMode: "host", Entrypoint: shim}, all: true},
		"host that asks":               {c: runtime.Container{Name: "x", NetworkMode: "host", Env: []string{"WEAVE_CIDR="}}, problem: "--net=host"},
		"shares a namespace":           {c: runtime.Container{NetworkMode: "container:0123"}, all: true},
		"shares a namespace, but asks": {c: runtime.Container{NetworkMode: "container:0123", Labels: labels("weave.cidr", "")}, want: runtime.Wish{Wanted: true}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := runtime.WishOf(tt.c, tt.all)
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("got error %v, want one with %q", err, tt.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Names) == 0 {
				got.Names = nil
			}
			if len(got.Addresses) == 0 {
				got.Addresses = nil
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestHostname(t *testing.T) {
	n := runtime.Naming{Domain: "weave.local."}
	web := runtime.Naming{Domain: "weave.local.", FromLabel: "app", Match: regexp.MustCompile(`^aws-([0-9]+)-(.*)$`), Replacement: "my-app-$1"}
	for _, tt := range []struct {
		naming runtime.Naming
		name   string
		labels map[string]string
		want   string
		ok     bool
	}{
		{n, "web", nil, "web", true},
		{runtime.Naming{}, "web", nil, "", false},
		{n, "", nil, "", false},
		{n, strings.Repeat("a", 52), nil, strings.Repeat("a", 52), true},
		{n, strings.Repeat("a", 53), nil, strings.Repeat("a", 53), false},
		{web, "aws-12345-foo", nil, "my-app-12345", true},
		{web, "other", map[string]string{"app": "aws-7-x"}, "my-app-7", true},
		{web, "other", nil, "other", true},
	} {
		got, ok := tt.naming.Hostname(tt.name, tt.labels)
		if got != tt.want || ok != tt.ok {
			t.Errorf("%q %v: got %q %v, want %q %v", tt.name, tt.labels, got, ok, tt.want, tt.ok)
		}
	}
}

func TestHostsFile(t *testing.T) {
	h := runtime.Hosts{
		Hostname: "web", Domain: "weave.local.", Extra: []string{"db:10.9.9.9", "six:[fd00::1]"},
		Addresses: []netip.Addr{netip.MustParseAddr("10.32.0.1"), netip.MustParseAddr("fd00::2")},
	}
	const was = "127.0.0.1\tlocalhost\n::1 localhost\n172.17.0.2\tweb.weave.local web\n192.0.2.1 other"
	const want = `# created by Weave - BEGIN
10.32.0.1       web.weave.local web
fd00::2         web.weave.local web
10.9.9.9        db
fd00::1         six
# created by Weave - END
127.0.0.1	localhost
::1 localhost
192.0.2.1 other
`
	text, err := h.Merge(was)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, text); d != "" {
		t.Error(d)
	}
	if again, err := h.Merge(text); err != nil || again != text {
		t.Errorf("merged again (%v):\n%s", err, cmp.Diff(text, again))
	}
	if text, err := (runtime.Hosts{}).Merge(""); err != nil || !strings.Contains(text, "127.0.0.1       localhost\n") {
		t.Errorf("an empty file became (%v)\n%s", err, text)
	}
	for _, bad := range []string{"", "x", "x:", ":10.1.1.1", "x:y", "a b:10.1.1.1", "a\n:10.1.1.1"} {
		if _, err := (runtime.Hosts{Extra: []string{bad}}).Merge(""); err == nil {
			t.Errorf("extra host %q was taken", bad)
		}
	}
}
