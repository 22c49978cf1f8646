package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server with every listener over a fake node until the test ends.
func serve(t *testing.T, node *fakeNode, backends Backends) (*Client, *Server) {
	t.Helper()
	cfg := Config{
		Socket: filepath.Join(t.TempDir(), SocketName), HTTPAddr: "127.0.0.1:0", StatusAddr: "127.0.0.1:0",
		Instance: strings.Repeat("ab", 32), Resolver: fakeResolver{},
	}
	s, err := Listen(cfg, backends)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	node.cancel = cancel
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return NewClient(cfg.Socket), s
}

func serveAll(t *testing.T) (*Client, *Server, *fakeNode) {
	t.Helper()
	node := newFakeNode()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "weave_connections 1") })
	c, s := serve(t, node, Backends{Reporter: node, Peers: node, Attacher: node, Lifecycle: node, Metrics: metrics})
	return c, s, node
}

func wantStatus(t *testing.T, err error, code int, text string) {
	t.Helper()
	se, ok := errors.AsType[*StatusError](err)
	if !ok || se.Code != code || !strings.Contains(se.Text, text) {
		t.Errorf("got %v, want status %d with %q", err, code, text)
	}
}

func TestStatus(t *testing.T) {
	c, _, node := serveAll(t)
	for sub, want := range map[string]string{
		"": RenderStatus(busyReport()), "targets": RenderTargets(busyReport()),
		"connections": RenderConnections(busyReport()), "peers": RenderPeers(busyReport()),
	} {
		if got, err := c.Status(t.Context(), sub); err != nil || got != want {
			t.Errorf("status %q: %q, %v", sub, got, err)
		}
	}
	_, err := c.Status(t.Context(), "ipam")
	wantStatus(t, err, http.StatusNotFound, "")
	_, err = c.Status(t.Context(), "../report")
	wantStatus(t, err, http.StatusNotFound, "")

	node.mu.Lock()
	node.report.Ready = false
	node.mu.Unlock()
	_, err = c.Status(t.Context(), "targets")
	wantStatus(t, err, http.StatusServiceUnavailable, "host2\n10.2.2.1\n10.9.9.9:6783")
}

func TestReport(t *testing.T) {
	c, s, _ := serveAll(t)
	text, err := c.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", text)
	var back Report
	if err := json.Unmarshal([]byte(text), &back); err != nil || back.Router.NickName != "host1" {
		t.Errorf("read back: %v", err)
	}
	for format, want := range map[string]string{
		"{{.Router.Name}} {{.Router.NickName}}": "8a:3e:3e:3e:3e:3e host1",
		"{{len .Router.Peers}}\n":               "2\n",
		"{{json .Router.Targets}}":              `["host2","10.2.2.1","10.9.9.9:6783"]`,
		"{{.VersionCheck.Enabled}}":             "false",
		"":                                      "",

		`{{range .Router.Peers}}{{.UID}},{{end}}`:    "1,2,",
		`{{printf "%-6s|%03d" "x" .Router.Port}}`:    "x     |6783",
		`{{if .Ready}}yes{{else}}no{{end}}`:          "yes",
		`{{with .Router}}{{print .Port "x"}}{{end}}`: "6783x",
	} {
		if got, err := c.Format(t.Context(), format); err != nil || got != want {
			t.Errorf("format %q: %q, %v; want %q", format, got, err, want)
		}
	}
	_, err = c.Format(t.Context(), "{{.Router.Nonsense}}")
	wantStatus(t, err, http.StatusBadRequest, "Nonsense")
	_, err = c.Format(t.Context(), "{{")
	wantStatus(t, err, http.StatusBadRequest, "format")
	_, err = c.do(t.Context(), http.MethodGet, "/report", nil, "")
	wantStatus(t, err, http.StatusBadRequest, "error: must supply one format parameter")
	code, body := request(t, http.MethodGet, "http://"+s.Addrs()[1].String()+"/report?format=a&format=b")
	if code != http.StatusBadRequest || body != "error: must supply one format parameter\n" {
		t.Errorf("two formats: %d %q", code, body)
	}
}

// A template is a programme of a stranger: it ends, and its memory does too.
func TestHostileTemplates(t *testing.T) {
	expired, cancel := context.WithCancelCause(t.Context())
	cancel(errTemplateTime)
	for name, c := range map[string]struct {
		ctx  context.Context
		text string
		want error
	}{
		"endless":     {expired, `{{range 1000000000000}}{{end}}`, errTemplateTime},
		"branching":   {expired, `{{define "a"}}{{template "b"}}{{end}}{{define "b"}}{{if 1}}{{end}}{{end}}{{template "a"}}`, errTemplateTime},
		"doubling":    {t.Context(), `{{$x := "a"}}{{range 64}}{{$x = print $x $x}}{{end}}`, errTooMuch},
		"quoting":     {t.Context(), `{{$x := "\""}}{{range 64}}{{$x = json $x}}{{end}}`, errTooMuch},
		"wide":        {t.Context(), `{{printf "%999999d" 1}}`, errTooMuch},
		"given width": {t.Context(), `{{printf "%*d" 999999 1}}`, errTooMuch},
		"repeating":   {t.Context(), `{{printf "%[1]v%[1]v" .}}`, errTooMuch},
		"arguments":   {t.Context(), `{{print` + strings.Repeat(" .", 100) + `}}`, errTooMuch},
		"long":        {t.Context(), strings.Repeat("x", maxTemplate+1), errTemplateSize},
		"writing":     {t.Context(), `{{$x := printf "%999d" 1}}{{$x = print $x $x $x $x}}{{$x = print $x $x $x $x}}{{$x = print $x $x $x $x}}{{$x = print $x $x $x $x}}{{range 100000}}{{$x}}{{end}}`, errOutputSize},
	} {
		if _, err := executeTemplate(c.ctx, c.text, busyReport()); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestConnectAndForget(t *testing.T) {
	c, _, node := serveAll(t)
	ctx := t.Context()
	if err := c.Connect(ctx, []string{"known:99", "10.1.1.1", "[fd00::1]:6783", "fd00::2"}, true); err != nil {
		t.Fatal(err)
	}
	err := c.Connect(ctx, []string{"unknown", "known", "a:b:c"}, false)
	wantStatus(t, err, http.StatusBadRequest, `cannot resolve peer "unknown": no such host`)
	wantStatus(t, err, http.StatusBadRequest, `invalid peer name "a:b:c", should be host[:port]`)
	if err := c.Forget(ctx, []string{"10.1.1.1", "never-heard-of"}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Status(ctx, "targets")
	if want := "known:99\n[fd00::1]:6783\nfd00::2\nknown\n"; err != nil || got != want {
		t.Errorf("targets %q, %v; want %q", got, err, want)
	}
	if err := c.Connect(ctx, nil, true); err != nil {
		t.Fatal(err)
	}
	if got, _ := c.Status(ctx, "targets"); got != "" {
		t.Errorf("targets %q after an empty replace", got)
	}
	node.setFault(errors.New("disk full"))
	wantStatus(t, c.Connect(ctx, []string{"known"}, false), http.StatusInternalServerError, "disk full")
	wantStatus(t, c.Forget(ctx, []string{"known"}), http.StatusInternalServerError, "disk full")
}

func TestAttach(t *testing.T) {
	c, _, node := serveAll(t)
	ctx := t.Context()
	got, err := c.Attach(ctx, "/run/netns/c1", []string{"10.2.1.1/24", "ip:10.3.1.1/24", "fd00::1/64"}, true)
	if want := "10.2.1.1 10.3.1.1 fd00::1\n"; err != nil || got != want {
		t.Errorf("attach: %q, %v; want %q", got, err, want)
	}
	if !node.attached["/run/netns/c1"].NoMulticastRoute {
		t.Error("no-multicast-route was lost")
	}
	got, err = c.Containers(ctx, nil)
	if want := "/run/netns/c1 02:00:00:00:00:01 10.2.1.1/24 10.3.1.1/24 fd00::1/64\n"; err != nil || got != want {
		t.Errorf("ps: %q, %v; want %q", got, err, want)
	}
	if got, err := c.Containers(ctx, []string{"c2"}); err != nil || got != "" {
		t.Errorf("ps of one not attached: %q, %v", got, err)
	}
	for _, addrs := range [][]string{nil, {"net:default"}, {"10.2.1.1/24", "net:10.3.0.0/16"}} {
		_, err := c.Attach(ctx, "c1", addrs, false)
		wantStatus(t, err, http.StatusBadRequest, "IP address allocation must be enabled to use 'net:'")
	}
	for _, addr := range []string{"10.2.1.1", "ip:10.2.1.1", "10.2.1.1/33", "x/24", "224.0.0.1/24", "127.0.0.1/8", "0.0.0.0/0", "::ffff:1.2.3.4/120"} {
		_, err := c.Attach(ctx, "c1", []string{addr}, false)
		wantStatus(t, err, http.StatusBadRequest, "invalid address "+fmt.Sprintf("%q", addr))
	}
	_, err = c.Attach(ctx, "", []string{"10.2.1.1/24"}, false)
	wantStatus(t, err, http.StatusBadRequest, "target")
	got, err = c.Detach(ctx, "/run/netns/c1", []string{"10.2.1.1/24"})
	if err != nil || got != "10.2.1.1\n" {
		t.Errorf("detach: %q, %v", got, err)
	}
	node.setFault(&StatusError{Code: http.StatusConflict, Text: "Container c1 died"})
	_, err = c.Attach(ctx, "c1", []string{"10.2.1.1/24"}, false)
	wantStatus(t, err, http.StatusConflict, "Container c1 died")
}

// One request that goes wrong harms no other.
func TestPanicAndSize(t *testing.T) {
	c, _, _ := serveAll(t)
	_, err := c.Attach(t.Context(), "panic", []string{"10.2.1.1/24"}, false)
	wantStatus(t, err, http.StatusInternalServerError, "internal error")
	_, err = c.Attach(t.Context(), strings.Repeat("x", maxBody), []string{"10.2.1.1/24"}, false)
	wantStatus(t, err, http.StatusBadRequest, "too large")
	if _, err := c.Status(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

func TestVersionAndInstance(t *testing.T) {
	c, _, _ := serveAll(t)
	if got, err := c.Version(t.Context()); err != nil || got != Version {
		t.Errorf("version %q, %v", got, err)
	}
	if got, err := c.Instance(t.Context()); err != nil || got != strings.Repeat("ab", 32) {
		t.Errorf("instance %q, %v", got, err)
	}
}

// The answer to a stop arrives although the server ends because of it.
func TestStopAndReset(t *testing.T) {
	c, _, node := serveAll(t)
	if err := c.HandOver(t.Context()); err != nil {
		t.Error(err)
	}
	node.setFault(errors.New("an interface is stuck"))
	wantStatus(t, c.Reset(t.Context()), http.StatusInternalServerError, "an interface is stuck")
	node.setFault(nil)
	if err := c.Reset(t.Context()); err != nil {
		t.Error(err)
	}
	if got := strings.Join(node.ended, " "); got != "reset reset stop" {
		t.Errorf("order: %s", got)
	}
}

func TestClientWithoutDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), SocketName)
	if _, err := NewClient(socket).Status(t.Context(), ""); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	staleSocket(t, socket)
	if _, err := NewClient(socket).Status(t.Context(), ""); !errors.Is(err, ErrNotRunning) {
		t.Errorf("socket of a dead daemon: %v", err)
	}
}

func TestAbsentBackends(t *testing.T) {
	node := newFakeNode()
	c, s := serve(t, node, Backends{Reporter: node})
	wantStatus(t, c.Connect(t.Context(), []string{"known"}, false), http.StatusNotFound, "")
	wantStatus(t, c.Stop(t.Context()), http.StatusNotFound, "")
	_, err := c.Containers(t.Context(), nil)
	wantStatus(t, err, http.StatusNotFound, "")
	if code, _ := request(t, http.MethodGet, "http://"+s.Addrs()[1].String()+"/metrics"); code != http.StatusNotFound {
		t.Errorf("metrics: %d", code)
	}
}

// staleSocket leaves a socket file that nobody listens on.
func staleSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func request(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
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

func TestListen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Config{Socket: file}, Backends{}); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v", err)
	}
	if _, err := Listen(Config{Socket: "/" + strings.Repeat("x", 200)}, Backends{}); err == nil || !strings.Contains(err.Error(), "WEAVE_RUN_DIR") {
		t.Errorf("long path: %v", err)
	}
	socket := filepath.Join(dir, "s")
	staleSocket(t, socket)
	s, err := Listen(Config{Socket: socket}, Backends{})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the socket: %v, %v", info.Mode(), err)
	}
	if _, err := Listen(Config{Socket: socket}, Backends{}); err == nil || !strings.Contains(err.Error(), "another daemon answers") {
		t.Errorf("twice: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is still there after Run")
	}
}

// What TCP shows cannot change anything, whichever way it is asked; a path shows what its flag says.
func TestFaces(t *testing.T) {
	node := newFakeNode()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	httpPath, statusPath := filepath.Join(dir, "http"), filepath.Join(dir, "status")
	for _, c := range []struct {
		http, status string
		listeners    int
	}{
		{"127.0.0.1:0", "127.0.0.1:0", 3}, {taken.Addr().String(), "", 1}, {httpPath, statusPath, 3}, {"/no/such/dir/s", "", 1},
	} {
		s, err := Listen(Config{Socket: filepath.Join(dir, "c"), HTTPAddr: c.http, StatusAddr: c.status}, Backends{
			Reporter: node, Peers: node, Attacher: node, Lifecycle: node,
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Addrs()) != c.listeners {
			t.Errorf("%+v: %d listeners", c, len(s.Addrs()))
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		if c.http == "127.0.0.1:0" {
			for _, addr := range s.Addrs()[1:] {
				checkReadOnly(t, "http://"+addr.String())
			}
		}
		if c.http == httpPath {
			if err := NewClient(httpPath).Forget(ctx, nil); err != nil {
				t.Errorf("http-addr as a path: %v", err)
			}
			wantStatus(t, NewClient(statusPath).Forget(ctx, nil), http.StatusForbidden, "read-only")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func checkReadOnly(t *testing.T, base string) {
	t.Helper()
	for path, want := range map[string]int{
		"GET /status": 200, "GET /status/peers": 200, "GET /report?format=x": 200, "HEAD /status": 200,
		"POST /connect": 403, "POST /stop": 403, "POST /reset": 403, "DELETE /peer": 403, "POST /attach": 403,
		"DELETE /attach": 403, "GET /ps": 404, "GET /instance": 404, "GET /nonsense": 404, "POST /status": 403,
	} {
		method, path, _ := strings.Cut(path, " ")
		if code, body := request(t, method, base+path); code != want {
			t.Errorf("%s %s: %d %q, want %d", method, path, code, body, want)
		}
	}
}
