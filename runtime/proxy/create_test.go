package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"weave/runtime"
)

// TestCreate runs the transcripts of testdata/create: a request, an image, and what becomes of the request, or the error.
// The first lines say the container's name and what the proxy was told.
func TestCreate(t *testing.T) {
	files, err := filepath.Glob("testdata/create/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { createGolden(t, file) })
	}
}

func createGolden(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a := txtar.Parse(text)
	part := map[string][]byte{}
	for _, f := range a.Files {
		part[f.Name] = f.Data
	}
	p := &Proxy{cfg: settings(t)}
	name := ""
	for line := range strings.Lines(string(a.Comment)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "name":
			name = value
		case "without-dns":
			p.cfg.DNS, p.cfg.Naming = netip.Addr{}, runtime.Naming{}
		case "no-default-ipalloc":
			p.cfg.NoDefaultAllocation = true
		case "hostname-from-label":
			p.cfg.Naming.FromLabel = value
		case "relabel":
			p.cfg.Shim.Relabel = true
		}
	}
	got, err := p.rewriteFor(t, name, part["request"], part["image"])
	want := strings.TrimSpace(string(part["result"]))
	switch {
	case err != nil:
		if want != "error: "+err.Error() {
			t.Errorf("got error %v, want %s", err, want)
		}
	case want == "unchanged":
		if !bytes.Equal(got, part["request"]) {
			t.Errorf("changed to %s", got)
		}
	default:
		if d := cmp.Diff(indented(t, []byte(want)), indented(t, got)); d != "" {
			t.Errorf("%s\n%s", d, indented(t, got))
		}
	}
}

// rewriteFor does what create does once it has the image.
func (p *Proxy) rewriteFor(t testing.TB, name string, request, imageJSON []byte) ([]byte, error) {
	t.Helper()
	var img image
	if err := json.Unmarshal(imageJSON, &img); err != nil {
		t.Fatal(err)
	}
	config, err := parseObject(request)
	if err != nil {
		t.Fatal(err)
	}
	cr := creation{config: config, name: name}
	wish, _, err := cr.read()
	if err != nil {
		return nil, err
	}
	if wish.OnHost() || wish.Shares() || !p.wanted(wish, img) {
		return request, nil
	}
	return cr.rewrite(p.cfg, wish, img)
}

func indented(t *testing.T, text []byte) string {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// FuzzCreate has a changed request keep every value that is none of ours, start with the shim, and be left alone when it
// comes back.
func FuzzCreate(f *testing.F) {
	for _, seed := range []string{
		`{"Image":"x","Cmd":"a"}`, `{"Entrypoint":["a"],"HostConfig":{"Binds":["/x:/w"],"Memory":9007199254740993}}`,
		`{"Entrypoint":[],"HostConfig":{"Mounts":[{"Target":"/w"},{"Target":"/v"}],"Dns":["1.1.1.1"],"UTSMode":"host"}}`,
		`{"hostconfig":{"networkmode":"none","Tmpfs":{"/w/":""}},"Env":["WEAVE_CIDR=net:default"],"Labels":{"weave":"true"}}`,
	} {
		f.Add([]byte(seed), "name")
	}
	f.Fuzz(func(t *testing.T, request []byte, name string) {
		before, err := parseObject(request)
		if err != nil {
			return
		}
		p := &Proxy{cfg: settings(t)}
		p.cfg.Log = slog.New(slog.DiscardHandler)
		out, err := p.rewriteFor(t, name, request, []byte(`{"Entrypoint":["/e"],"Cmd":["c"]}`))
		if err != nil || bytes.Equal(out, request) {
			return
		}
		after, err := parseObject(out)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		ours := []string{"Entrypoint", "Cmd", "HostConfig", "Hostname", "Domainname"}
		for k, v := range before {
			if !has(ours, k) && !sameJSON(v, after[k]) {
				t.Errorf("%s: %s became %s", k, v, after[k])
			}
		}
		var cmd command
		if err := errors.Join(after.read("Entrypoint", &cmd.Entrypoint), after.read("Cmd", &cmd.Cmd)); err != nil || len(cmd.Entrypoint) == 0 || cmd.Entrypoint[0] != shimPath || len(cmd.Entrypoint)+len(cmd.Cmd) < 2 {
			t.Fatalf("%+v, %v", cmd, err)
		}
		again, err := p.rewriteFor(t, name, out, []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		var twice command
		more, err := parseObject(again)
		if err != nil || more.read("Entrypoint", &twice.Entrypoint) != nil || cmp.Diff(cmd.Entrypoint, twice.Entrypoint) != "" {
			t.Errorf("%s became %s", out, again)
		}
	})
}

func has(list []string, name string) bool {
	for _, l := range list {
		if strings.EqualFold(l, name) {
			return true
		}
	}
	return false
}

// sameJSON compares values but for white space.
func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && x.String() == y.String()
}

func TestCall(t *testing.T) {
	for text, want := range map[string]string{
		"POST /containers/create":                         "1   ",
		"POST /v1.41/containers/create?name=x":            "1 /v1.41  ",
		"POST /v4.0.0/containers/a/start":                 "2 /v4.0.0 a ",
		"POST /containers/a/b/restart":                    "2  a/b ",
		"POST /containers/a%2Fb/restart":                  "2  a/b ",
		"GET /v1.41/containers/json":                      "0 /v1.41  ",
		"GET /v1.41/containers/x/json?size=1":             "3 /v1.41 x ",
		"POST /v1.41/containers/x/exec":                   "4 /v1.41 x ",
		"GET /v1.41/exec/x/json":                          "5 /v1.41 x ",
		"GET http://docker/v1.41/exec/x/json":             "5 /v1.41 x ",
		"POST /v1.41/exec/x/start":                        "0 /v1.41 x ",
		"GET /containers/create":                          "0  ",
		"POST /v4.0.0/libpod/containers/x/start":          "0 /v4.0.0  ",
		"POST /v1.41/containers//start":                   "0 /v1.41  ",
		"GET *":                                           "0   ",
		"POST /v1.41/containers/x/attach?stream=1":        "0 /v1.41 x ",
		"DELETE /v1.41/containers/x":                      "0 /v1.41  ",
		"POST /v99999999999999999999.1/containers/create": "1 /v99999999999999999999.1  ",
	} {
		method, target, _ := strings.Cut(text, " ")
		c := callOf(method, target)
		got := strings.TrimSpace(strings.Join([]string{string('0' + rune(c.kind)), c.prefix, c.id}, " "))
		if strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for prefix, old := range map[string]bool{"": false, "/v1.23": true, "/v1.24": false, "/v1.9": true, "/v2": false, "/v1": true, "/v0.99": true, "/v1.": true, "/v1.100.3": false} {
		if got := (call{prefix: prefix}).before(1, 24); got != old {
			t.Errorf("%s: %v", prefix, got)
		}
	}
}
