package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// fakeNames keeps what it is asked, as text.
type fakeNames struct{ asked []string }

func (n *fakeNames) AddName(_ context.Context, r NameRequest) error {
	n.asked = append(n.asked, fmt.Sprintf("add %s %v %s %v", r.Target, r.Addrs, r.Name, r.Services))
	return nil
}

func (n *fakeNames) RemoveName(_ context.Context, r NameRequest) error {
	n.asked = append(n.asked, fmt.Sprintf("remove %s %v %s", r.Target, r.Addrs, r.Name))
	return nil
}

func (n *fakeNames) Lookup(context.Context, string) ([]netip.Addr, bool) { return nil, false }

func (n *fakeNames) NameServer() (string, netip.AddrPort) {
	return "weave.local.", netip.MustParseAddrPort("169.254.64.1:53")
}

func TestNameRoutes(t *testing.T) {
	n := &fakeNames{}
	s := &Server{backends: Backends{Names: n}}
	mux := http.NewServeMux()
	s.addNameRoutes(mux)
	for _, c := range []struct {
		method, path, query string
		code                int
		want                string // what is asked of the backend, or the body
	}{
		{"PUT", "/name/c1/10.0.0.1", "fqdn=a.weave.local&check-alive=true", 204, "add c1 [10.0.0.1] a.weave.local []"},
		{"PUT", "/name", "target=c1&addr=10.0.0.1&addr=fd00::1&fqdn=a&service=http/tcp/80", 204, "add c1 [10.0.0.1 fd00::1] a [{http tcp 80}]"},
		{"PUT", "/name/c1/10.0.0", "fqdn=a", 400, "unable to parse ip addr"},
		{"PUT", "/name", "addr=10.0.0.1&fqdn=a&service=http", 400, "invalid service"},
		{"DELETE", "/name", "", 204, "remove  [] "},
		{"DELETE", "/name/c1", "fqdn=a", 204, "remove c1 [] a"},
		{"DELETE", "/name/c1/10.0.0.1", "", 204, "remove c1 [10.0.0.1] "},
		{"GET", "/name", "", 200, "[]"},
		{"GET", "/domain", "", 200, "weave.local."},
		{"GET", "/dns-address", "", 200, "169.254.64.1"},
		{"GET", "/dns-address-port", "", 200, "169.254.64.1:53"},
	} {
		n.asked = nil
		r := httptest.NewRequest(c.method, c.path+"?"+c.query, nil)
		if err := r.ParseForm(); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		got := w.Body.String() + strings.Join(n.asked, "|")
		if w.Code != c.code || !strings.HasPrefix(got, c.want) || (c.code != 400 && got != c.want) {
			t.Errorf("%s %s?%s: %d %q", c.method, c.path, c.query, w.Code, got)
		}
	}
}

func TestRenderNames(t *testing.T) {
	r := Report{DNS: &DNS{Domain: "weave.local.", Entries: []DNSEntry{
		{Hostname: "db.weave.local.", Origin: "8a:3e:3e:3e:3e:3e", ContainerID: "0123456789abcdef", Address: "10.2.1.3"},
		{Hostname: "gone.weave.local.", Tombstone: 1},
		{Hostname: "foo.SUB.Weave.Local.", Origin: "8a:3e:3e:3e:3e:3e", ContainerID: Extern, Address: "fd00::1"},
	}}}
	const want = "db           10.2.1.3        0123456789ab 8a:3e:3e:3e:3e:3e\n" +
		"foo.SUB      fd00::1         weave:extern 8a:3e:3e:3e:3e:3e\n"
	if got := RenderNames(r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// FuzzParseService reads anything.
func FuzzParseService(f *testing.F) {
	f.Add("http/tcp/80")
	f.Add("udp/53")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseService(text)
		if err == nil && s.Port == 0 {
			t.Errorf("%q: %+v", url.QueryEscape(text), s)
		}
	})
}
