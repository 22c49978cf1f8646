package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for target, want := range map[string][2]string{
		"host":               {"host", ""},
		"host:6783":          {"host", "6783"},
		"a.b_c-d.example:1":  {"a.b_c-d.example", "1"},
		"10.0.0.1":           {"10.0.0.1", ""},
		"10.0.0.1:65535":     {"10.0.0.1", "65535"},
		"fd00::1":            {"fd00::1", ""},
		"[fd00::1]":          {"fd00::1", ""},
		"[fd00::1]:6783":     {"fd00::1", "6783"},
		"[fe80::1%eth0]:678": {"fe80::1%eth0", "678"},
	} {
		host, port, err := ParseTarget(target)
		if err != nil || host != want[0] || port != want[1] {
			t.Errorf("%q: %q %q %v", target, host, port, err)
		}
	}
	for _, target := range []string{
		"", ":", ":6783", "host:", "host:0", "host:65536", "host:x", "a:b:c", "a b", "host\n", "-x", "http://host",
		"host/path", "[10.0.0.1]:x", "[10.0.0.1]", "a..b", ".a", strings.Repeat("x", 254), "host:+1",
	} {
		_, _, err := ParseTarget(target)
		if err == nil || !strings.Contains(err.Error(), "invalid peer name ") || !strings.Contains(err.Error(), ", should be host[:port]") {
			t.Errorf("%q: %v", target, err)
		}
	}
}

func TestIsAddressArgument(t *testing.T) {
	for arg, want := range map[string]bool{
		"10.2.1.1/24": true, "ip:10.2.1.1/24": true, "net:default": true, "net:10.0.0.0/8": true, "fd00::1/64": true,
		"ip:nonsense": true, "c1": false, "1234": false, "/run/netns/c1": false, "10.2.1.1": false, "a/24": false,
	} {
		if got := IsAddressArgument(arg); got != want {
			t.Errorf("%q: %v", arg, got)
		}
	}
}

// Who connects is checked although the socket's mode says so already.
func TestOnlyOwner(t *testing.T) {
	if !allowed(1000, 1000) || !allowed(0, 1000) || !allowed(0, 0) {
		t.Error("our own user or root is refused")
	}
	if allowed(1001, 1000) || allowed(1000, 0) || allowed(65534, 1000) {
		t.Error("a stranger is served")
	}
	h := onlyOwner(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("served without credentials") }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/status", nil))
	if w.Code != http.StatusForbidden {
		t.Errorf("no credentials: %d", w.Code)
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"host", "host:1", "[::1]:6783", "fe80::1%a", "a:b:c", "[", "]:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		host, port, err := ParseTarget(target)
		if err != nil {
			return
		}
		// What was understood once is understood the same again.
		again := host
		if port != "" {
			again = "[" + host + "]:" + port
		}
		if h, p, err := ParseTarget(again); port == "" && (err != nil || h != host || p != "") {
			t.Errorf("%q: %q %q, again %q %q %v", target, host, port, h, p, err)
		}
	})
}

func FuzzParseAttach(f *testing.F) {
	f.Add("target=c1&addr=10.2.1.1/24&addr=ip:fd00::1/64&no-multicast-route=true")
	f.Add("target=c1&addr=net:default")
	f.Fuzz(func(t *testing.T, query string) {
		form, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		req, err := parseAttach(form)
		if err == nil && (req.Target == "" || len(req.Addresses) != max(1, len(form["addr"]))) {
			t.Errorf("%q: accepted as %+v", query, req)
		}
	})
}
