package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// fakeSpace remembers what it was asked, and gives everybody 10.32.0.1.
type fakeSpace struct{ asked []string }

func (s *fakeSpace) note(parts ...string) { s.asked = append(s.asked, strings.Join(parts, " ")) }

func (s *fakeSpace) Allocate(_ context.Context, id string, subnet netip.Prefix) (netip.Prefix, error) {
	s.note("allocate", id, subnet.String())
	return netip.MustParsePrefix("10.32.0.1/12"), nil
}

func (s *fakeSpace) Claim(_ context.Context, id string, cidr netip.Prefix, assume bool) error {
	if id == "late" {
		return &StatusError{Code: http.StatusOK, Text: "cancelled"}
	}
	s.note("claim", id, cidr.String(), map[bool]string{true: "assume"}[assume])
	return nil
}

func (s *fakeSpace) Lookup(_ context.Context, id string, _ netip.Prefix) ([]netip.Prefix, error) {
	if id == "nobody" {
		return nil, nil
	}
	return []netip.Prefix{netip.MustParsePrefix("10.32.0.1/12"), netip.MustParsePrefix("10.2.1.1/24")}, nil
}

func (s *fakeSpace) Free(_ context.Context, id string, addr netip.Addr) error {
	if id == "nobody" {
		return BadRequest("Delete: no addresses for nobody")
	}
	s.note("free", id, addr.String())
	return nil
}

func (s *fakeSpace) Owned(context.Context) ([]OwnedAddresses, error) {
	return []OwnedAddresses{{ContainerID: "c1", Addrs: []string{"10.32.0.1/12"}}}, nil
}

func (s *fakeSpace) Prime(context.Context) error { return nil }

func (s *fakeSpace) Settle(_ context.Context, what any) (string, error) {
	switch what := what.(type) {
	case RemovePeer:
		return "16 IPs taken over from " + what.Peer + "\n", nil
	case HandOver:
		s.note("hand over")
	}
	return "repaired\n", nil
}

func (s *fakeSpace) Waiting() ([]string, netip.Prefix) {
	return []string{"for this", "for that"}, netip.MustParsePrefix("10.32.0.0/12")
}

// call makes one request of the control socket.
func call(t *testing.T, s *Server, method, path string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", s.Addrs()[0].String())
	}}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://weave"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestAddressRoutes(t *testing.T) {
	space := &fakeSpace{}
	node := newFakeNode()
	_, s := serve(t, node, Backends{Reporter: node, Lifecycle: node, Holders: space, Space: space})
	for _, c := range []struct {
		method, path string
		code         int
		body, asked  string
	}{
		{"POST", "/ip/c1", 200, "10.32.0.1/12", "allocate c1 invalid Prefix"},
		{"POST", "/ip/c1/10.32.0.0/24?check-alive=true", 200, "10.32.0.1/12", "allocate c1 10.32.0.0/24"},
		{"POST", "/ip/net:[42]", 200, "10.32.0.1/12", "allocate net:[42] invalid Prefix"},
		{"POST", "/ip/c1/x/24", 400, "unable to parse ip addr: ", ""},
		{"GET", "/ip/c1", 200, "10.32.0.1/12 10.2.1.1/24", ""},
		{"GET", "/ip/nobody", 200, "", ""},
		{"GET", "/ip/c1/10.32.0.0/12", 200, "10.32.0.1/12 10.2.1.1/24", ""},
		{"PUT", "/ip/c1/10.32.0.5/12", 204, "", "claim c1 10.32.0.5/12 "},
		{"PUT", "/ip/_/10.32.0.5/12?noErrorOnUnknown=true", 204, "", "claim _ 10.32.0.5/12 assume"},
		{"PUT", "/ip/c1/10.32.0.5/33", 400, "unable to parse ip addr: ", ""},
		{"PUT", "/ip/late/10.32.0.5/12", 200, "cancelled\n", ""},
		{"DELETE", "/ip/c1/10.32.0.5", 204, "", "free c1 10.32.0.5"},
		{"DELETE", "/ip/c1", 204, "", "free c1 invalid IP"},
		{"DELETE", "/ip/c1/x", 400, "unable to parse ip addr: ", ""},
		{"DELETE", "/ip/nobody", 400, "Delete: no addresses for nobody\n", ""},
		{"GET", "/ip", 200, `{"owned":[{"containerid":"c1","addrs":["10.32.0.1/12"]}]}`, ""},
		{"GET", "/ring", 200, "", ""},
		{"GET", "/ipinfo/defaultsubnet", 200, "10.32.0.0/12", ""},
		{"GET", "/ipinfo/tracker", 200, "\n", ""},
		{"GET", "/ipinfo/waiting", 200, "for this\nfor that\n", ""},
		{"POST", "/ipinfo/repair", 200, "repaired\n", ""},
		{"DELETE", "/peer/host2", 200, "16 IPs taken over from host2\n", ""},
		{"DELETE", "/peer", 204, "", "hand over"},
	} {
		space.asked = nil
		code, body := call(t, s, c.method, c.path)
		exact := code != 400 || strings.HasSuffix(c.body, "\n")
		if code != c.code || exact && body != c.body || !strings.HasPrefix(body, c.body) {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, code, body, c.code, c.body)
		}
		if got := strings.Join(space.asked, ";"); got != c.asked {
			t.Errorf("%s %s: asked %q, want %q", c.method, c.path, got, c.asked)
		}
	}
	_, off := serve(t, newFakeNode(), Backends{Reporter: node, Lifecycle: node})
	for _, path := range []string{"/ip", "/ip/c1", "/ring", "/ipinfo/defaultsubnet", "/status/ipam"} {
		if code, _ := call(t, off, "GET", path); code != 404 {
			t.Errorf("GET %s without addresses: %d", path, code)
		}
	}
	if code, _ := call(t, off, "DELETE", "/peer"); code != 204 {
		t.Errorf("DELETE /peer without addresses: %d", code)
	}
}

func spaceReport() Report {
	r := busyReport()
	const host1, host2, host3 = "8a:3e:3e:3e:3e:3e", "7a:42:00:00:00:02", "5e:11:00:00:00:03"
	r.IPAM = &IPAM{
		Status: "ready", Range: "10.32.0.0/16", RangeNumIPs: 65536, DefaultSubnet: "10.32.0.0/16", ActiveIPs: 4, RangeIPv6: "fd12:3456:789a::/64",
		Entries: []IPAMEntry{
			{Token: "10.32.0.0", Size: 32768, Peer: host2, Nickname: "host2", IsKnownPeer: true, Version: 1},
			{Token: "10.32.128.0", Size: 28672, Peer: host1, Nickname: "host1", IsKnownPeer: true, Version: 1},
			{Token: "10.32.240.0", Size: 4096, Peer: host3, Nickname: "host3", Version: 2},
		},
		Strays:        []Stray{{Ident: "c1", CIDR: "10.32.240.1/16", Owner: host3 + "(host3)"}},
		Disagreements: []string{host2 + "(host2): Incompatible IP allocation ranges (received: 10.40.0.0/16, ours: 10.32.0.0/16)"},
		Waiting:       []string{"c2 no peer has a free address in 10.32.0.0/30"},
	}
	return r
}

func TestRenderSpace(t *testing.T) {
	golden(t, "status-space.txt", RenderStatus(spaceReport()))
	golden(t, "ipam.txt", RenderSpace(spaceReport()))
	golden(t, "ipam-check.txt", RenderSpaceCheck(spaceReport()))
	if text := RenderSpace(busyReport()); text != "" {
		t.Errorf("without a ring: %q", text)
	}
}
