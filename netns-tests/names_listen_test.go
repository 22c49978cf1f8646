package netnstests

import (
	"os"
	"path/filepath"
	"testing"

	mdns "github.com/miekg/dns"

	"weave/netns-tests/lab"
)

// A daemon that answers at all addresses, whose host asks it for names: other
// names are not asked of itself, at whichever address of the host.
func TestNamesAtAllAddresses(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 1})
	h := l.Hosts[0]
	file := filepath.Join(l.Dir, "resolv.conf")
	must(t, os.WriteFile(file, []byte("nameserver 127.0.0.1\nnameserver 127.0.0.53\nnameserver 10.99.0.77\nnameserver 10.99.0.78\n"), 0o644))
	launch(t, h, "--dns-listen-address", "0.0.0.0:53", "--resolv-conf", file)
	matches(t, h, nil, `(?s)Upstream: 10\.99\.0\.77, 10\.99\.0\.78\n`)
	for _, a := range []string{"10.99.0.77/32", "10.99.0.78/32"} {
		if r := h.Run(t.Context(), nil, "", "ip", "address", "add", a, "dev", "lo"); r.RC != 0 {
			t.Fatal(r.Stderr)
		}
	}
	matches(t, h, nil, `(?s)Upstream: none\n`)
	c := named(t, h, "10.2.1.1/24", "--name", "web")
	for at, n := range map[string]*lab.NS{"127.0.0.1": h.NS, "10.99.0.77": h.NS, nameServer(t, h): c.NS} {
		for _, network := range []string{"udp", "tcp"} {
			if m, err := query(n, network, at, "www.example.com.", mdns.TypeA); err != nil || m.Rcode != mdns.RcodeServerFailure {
				t.Errorf("%s at %s, nobody to ask: %v, %v", network, at, m, err)
			}
			if m, err := query(n, network, at, "web.weave.local.", mdns.TypeA); err != nil || len(m.Answer) != 1 {
				t.Errorf("%s at %s: %v, %v", network, at, m, err)
			}
		}
	}
}
