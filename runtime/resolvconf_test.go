package runtime_test

import (
	"net/netip"
	"testing"

	"weave/runtime"
)

func TestResolverMerge(t *testing.T) {
	r := runtime.Resolver{Server: netip.MustParseAddr("169.254.64.1"), Domain: "weave.local."}
	for was, want := range map[string]string{
		"": "nameserver 169.254.64.1\nsearch weave.local\n",
		"search example.org dns.podman\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions ndots:2\n# theirs": "nameserver 169.254.64.1\n" +
			"search weave.local example.org dns.podman\noptions ndots:2\n# theirs\n",
		"search .\ndomain weave.local\n": "nameserver 169.254.64.1\nsearch weave.local\n",
	} {
		got := r.Merge(was)
		if got != want {
			t.Errorf("%q became %q, want %q", was, got, want)
		}
		if again := r.Merge(got); again != got {
			t.Errorf("again: %q", again)
		}
	}
	if got := (runtime.Resolver{}).Merge("x"); got != "x" {
		t.Errorf("without a server: %q", got)
	}
}
