package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"weave/runtime"
)

const patience = 10 * time.Second

// network is a Network whose containers are attached when the test says so.
type network struct {
	mu     sync.Mutex
	asked  []string
	attach func(ctx context.Context, ref string) error
}

func (n *network) Attach(ctx context.Context, ref string) error {
	n.mu.Lock()
	n.asked = append(n.asked, ref)
	attach := n.attach
	n.mu.Unlock()
	if attach == nil {
		return nil
	}
	return attach(ctx, ref)
}

func (n *network) Interface(_ context.Context, id string) (net.HardwareAddr, []netip.Prefix, error) {
	if id != "aa11" {
		return nil, nil, nil
	}
	return net.HardwareAddr{2, 0, 0, 0, 0, 1}, []netip.Prefix{
		netip.MustParsePrefix("10.32.0.1/12"), netip.MustParsePrefix("fd00::1/108"),
	}, nil
}

func settings(t testing.TB) Config {
	return Config{
		Network: &network{}, Shim: Shim{Dir: "/var/lib/weave/w", NoWait: "/var/lib/weave/w-noop"},
		Naming: runtime.Naming{Domain: "weave.local."}, DNS: netip.MustParseAddr("169.254.7.7"),
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// run serves a proxy before an upstream and returns its address. The proxy has to end within the test.
func run(t *testing.T, cfg Config, upstream net.Listener) string {
	t.Helper()
	cfg.Upstream = "unix://" + upstream.Addr().String()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "weave.sock")
	l, err := Listen(Endpoints{Socket: socket, List: []string{"unix://" + socket}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, l.Listeners()) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the proxy does not end")
		}
	})
	return socket
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "engine.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// engineOf serves a handler as the engine.
func engineOf(t *testing.T, h http.Handler) net.Listener {
	t.Helper()
	l := listen(t)
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return l
}

func dial(t *testing.T, socket string) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.UnixConn)
}

// expect reads exactly these bytes.
func expect(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(r, got)
	if err != nil || string(got) != want {
		t.Fatalf("got %q, %v\nwant %q", got[:n], err, want)
	}
}

func say(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

func expectEnd(t *testing.T, r io.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Fatalf("got %q, %v, want the end", rest, err)
	}
}

// pair connects a client through the proxy; the engine's end is accepted with the first request.
func pair(t *testing.T, cfg Config) (client *net.UnixConn, accept func() *net.UnixConn) {
	t.Helper()
	l := listen(t)
	client = dial(t, run(t, cfg, l))
	return client, func() *net.UnixConn {
		t.Helper()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		return c.(*net.UnixConn)
	}
}
