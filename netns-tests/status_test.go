package netnstests

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"weave/netns-tests/lab"
)

const mac = `[0-9a-f]{2}(:[0-9a-f]{2}){5}`

// The topology of this file:
//
//	host1 ═══════ host2       host2 knows host1's address

func name(t *testing.T, h *lab.Host) string {
	t.Helper()
	return run(t, h, "report", "-f", "{{.Router.Name}}")
}

func TestStatusTexts(t *testing.T) {
	for _, c := range []struct{ encryption, password, info, attrs, why string }{
		{"disabled", "", "", "", `( \(no fastdp: .*\))?`},
		{"enabled", "--password=word", "encrypted   ", "encrypted=true", `( \(no fastdp: encrypted, and .*\))?`},
	} {
		t.Run("encryption "+c.encryption, func(t *testing.T) {
			var args []string
			if c.password != "" {
				args = []string{c.password}
			}
			l := mesh(t, lab.Config{Hosts: 2}, args...)
			h1, h2 := l.Hosts[0], l.Hosts[1]
			n1, n2 := name(t, h1)+"(host1)", name(t, h2)+"(host2)"
			matches(t, h2, nil, `^\n        Version: \S+ \(version check update disabled\)\n\n`+
				`        Service: router\n       Protocol: weave \d+(\.\.\d+)?\n           Name: `+regexp.QuoteMeta(n2)+`\n`+
				`     Encryption: `+c.encryption+`\n  PeerDiscovery: enabled\n        Targets: 1\n    Connections: 1 \(1 established\)\n`+
				`          Peers: 2 \(with 2 established connections\)\n TrustedSubnets: none\n\n`+
				`        Service: ipam\n         Status: idle\n          Range: 10\.32\.0\.0/12\n  DefaultSubnet: 10\.32\.0\.0/12\n\n`+
				`        Service: dns\n         Domain: weave\.local\.\n       Upstream: .*\n            TTL: 1\n        Entries: 0\n`+
				`        Address: 169\.254\.\d+\.\d+:53\n\n$`)
			way := `(10\.99\.0\.\d|\[fd99::\d\]):6783` // whichever family had the better round trips
			matches(t, h2, []string{"connections"}, `^-> 10\.99\.0\.1:6783        established `+c.info+`(fastdp|sleeve) `+
				regexp.QuoteMeta(n1)+` `+c.attrs+`mtu=\d+ direct `+way+` rtt=\S+ms loss=0% mtu=\d+`+c.why+`\n$`)
			matches(t, h1, []string{"connections"}, `^<- 10\.99\.0\.2:\d+ +established `+c.info+`(fastdp|sleeve) `+
				regexp.QuoteMeta(n2)+` `+c.attrs+`mtu=\d+ direct `+way+` rtt=\S+ms loss=0% mtu=\d+`+c.why+`\n$`)
			// each peer with its connections; both see both
			one := regexp.QuoteMeta(n1) + `\n   <- 10\.99\.0\.2:\d+ +` + regexp.QuoteMeta(fmt.Sprintf("%-37s", n2)) + ` established\n`
			two := regexp.QuoteMeta(n2) + `\n   -> 10\.99\.0\.1:6783        ` + regexp.QuoteMeta(fmt.Sprintf("%-37s", n1)) + ` established\n`
			for _, h := range l.Hosts {
				matches(t, h, []string{"peers"}, `^(`+one+two+`|`+two+one+`)$`)
			}
		})
	}
}

// matches waits until `weave status WHAT` prints what the pattern describes:
// the peers' views of each other need a moment to agree.
func matches(t *testing.T, h *lab.Host, what []string, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	if err := lab.Eventually(soon, func() error {
		if r := h.Weave(append([]string{"status"}, what...)...); r.RC != 0 || !re.MatchString(r.Stdout) {
			return fmt.Errorf("does not match %s: %v", pattern, r)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestTargetsAsTyped(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h, "10.99.0.8:6783", "10.99.0.9")
	lines := strings.Fields(run(t, h, "status", "targets"))
	slices.Sort(lines)
	if want := []string{"10.99.0.8:6783", "10.99.0.9"}; !slices.Equal(lines, want) {
		t.Errorf("targets %q, want %q", lines, want)
	}
	// nobody is there: the lines say so, with a reason and the next attempt
	matches(t, h, []string{"connections"}, `(?m)^-> 10\.99\.0\.8:6783        (failed|retrying) +\S.*, retry: \d{4}-\d\d-\d\d .*$`)
}

// reportJSON names what scripts read from `weave report`.
type reportJSON struct {
	Ready   bool
	Version string
	Router  struct {
		Protocol, Name, NickName string
		Encryption               bool
		Port                     int
		Peers                    []struct {
			Name, NickName string
			UID            uint64
			Connections    []struct {
				Name, NickName, Address string
				Outbound, Established   bool
			}
		}
		UnicastRoutes   []struct{ Dest, Via string }
		BroadcastRoutes []struct {
			Source string
			Via    []string
		}
		Connections []struct {
			Address     string
			Outbound    bool
			State, Info string
			Attrs       map[string]any
		}
		Targets []string
	}
}

func TestReport(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 2})
	h := l.Hosts[0]
	var text string
	var report reportJSON
	eventually(t, soon, func() error { // routes need both ends' word
		text = run(t, h, "report")
		report = reportJSON{}
		must(t, json.Unmarshal([]byte(text), &report))
		r := report.Router
		if !report.Ready || r.Port != 6783 || len(r.Peers) != 2 || len(r.Connections) != 1 || len(r.UnicastRoutes) != 2 || len(r.BroadcastRoutes) == 0 {
			return fmt.Errorf("report: %s", text)
		}
		return nil
	})
	r := report.Router
	if !strings.HasPrefix(text, "{\n    \"") {
		t.Errorf("the JSON is not indented by 4: %.40q", text)
	}
	for template, want := range map[string]string{
		"{{.Router.NickName}}":             "host1",
		"{{len .Router.Peers}}\n":          "2\n",
		"{{json .Router.Targets}}":         "[]",
		"{{(index .Router.Peers 0).Name}}": r.Peers[0].Name,
	} {
		if got := run(t, h, "report", "-f", template); got != want {
			t.Errorf("report -f %q printed %q, want %q", template, got, want)
		}
	}
	refused(t, h, 1, "", "report", "-f", "{{.Nonsense}}")
}

func TestHTTPListeners(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h, "10.99.0.8")
	eventually(t, soon, func() error { // a connection, for the metrics to count
		if r := h.Weave("status", "connections"); r.Stdout == "" {
			return fmt.Errorf("no connections: %v", r)
		}
		return nil
	})
	client := httpIn(h.NS)
	for _, base := range []string{"http://127.0.0.1:6784", "http://127.0.0.1:6782"} {
		for path, want := range map[string]string{
			"/status":                             "        Service: router\n",
			"/status/peers":                       "(host1)\n",
			"/report?format={{.Router.NickName}}": "host1",
			"/metrics":                            `weave_connections{encryption="",state="`,
		} {
			resp, err := client.Get(base + path)
			if err != nil {
				t.Error(err)
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
				t.Errorf("GET %s%s: %s, without %q in:\n%s", base, path, resp.Status, want, body)
			}
		}
		resp, err := client.Post(base+"/connect?peer=10.99.0.9", "", nil)
		must(t, err)
		_ = resp.Body.Close()
		if resp.StatusCode/100 != 4 {
			t.Errorf("POST %s/connect: %s: TCP must be read-only", base, resp.Status)
		}
	}
	if out := run(t, h, "status", "targets"); out != "10.99.0.8\n" {
		t.Errorf("a TCP client changed the targets: %q", out)
	}
}

// httpIn is a client whose connections start in the namespace.
func httpIn(n *lab.NS) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
			err = n.Do(func() (err error) {
				var d net.Dialer
				c, err = d.DialContext(ctx, network, addr)
				return err
			})
			return c, err
		},
	}}
}

func TestPs(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h)
	if out := run(t, h, "ps"); out != "" {
		t.Errorf("ps of nothing printed %q", out)
	}
	c := container(t, h, "10.2.1.1/24", "10.2.2.1/24")
	line := ethwe(t, c).MAC + " 10.2.1.1/24 10.2.2.1/24\n"
	if out := run(t, h, "ps"); !regexp.MustCompile(`^\S+ ` + line + `$`).MatchString(out) {
		t.Errorf("ps printed %q, want a name, then %q", out, line)
	}
	if out := run(t, h, "ps", c.Name); out != c.Name+" "+line {
		t.Errorf("ps %s printed %q, want the name, then %q", c.Name, out, line)
	}
	if out := run(t, h, "ps", "nobody"); out != "" {
		t.Errorf("ps nobody printed %q", out)
	}
}
