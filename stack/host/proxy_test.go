package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/proxy"
)

// weaveNames is a Resolver of one name.
func weaveNames(_ context.Context, name string) ([]netip.Addr, error) {
	if name != "web.weave.local" {
		return nil, errors.New("unknown")
	}
	return []netip.Addr{addrB.Addr(), addrB6.Addr()}, nil
}

func newProxy(t testing.TB, h *Host, cfg ProxyConfig) string {
	t.Helper()
	l, err := net.Listen("tcp4", loopback.String())
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.Proxy(l, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p.Addr().String()
}

func TestSOCKS(t *testing.T) {
	a, b, _ := pair(t, Config{})
	port := listenOverlay(t, b, netip.IPv4Unspecified(), echo).Port()
	for name, auth := range map[string]*proxy.Auth{"open": nil, "password": {User: "me", Password: "secret"}} {
		t.Run(name, func(t *testing.T) {
			cfg := ProxyConfig{Resolve: weaveNames}
			if auth != nil {
				cfg.User, cfg.Password = auth.User, auth.Password
			}
			d, err := proxy.SOCKS5("tcp", newProxy(t, a, cfg), auth, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, host := range []string{"web.weave.local", "web.weave.local.", addrB.Addr().String()} {
				c, err := d.Dial("tcp", fmt.Sprintf("%s:%d", host, port))
				if err != nil {
					t.Fatalf("%s: %v", host, err)
				}
				exchange(t, c, randomBytes(1<<20))
				c.Close()
			}
			for host, want := range map[string]string{
				"db.weave.local:80": "host unreachable", addrB.Addr().String() + ":9": "connection refused",
				"192.0.2.1:80": "unreachable",
			} {
				if _, err := d.Dial("tcp", host); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v, want %q", host, err, want)
				}
			}
		})
	}
}

// talk sends raw bytes to a proxy and returns all that comes back.
func talk(t testing.TB, addr string, send []byte) []byte {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = c.Write(send)
	_ = c.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(c)
	return got
}

func TestSOCKSRefuses(t *testing.T) {
	a, _, _ := pair(t, Config{})
	open := newProxy(t, a, ProxyConfig{})
	locked := newProxy(t, a, ProxyConfig{User: "me", Password: "secret"})
	for name, c := range map[string]struct {
		to         string
		send, want []byte
	}{
		"udp associate":  {open, []byte{5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0}, []byte{5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0}},
		"bind":           {open, []byte{5, 1, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 0}, []byte{5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0}},
		"address type":   {open, []byte{5, 1, 0, 5, 1, 0, 9, 0, 0, 0, 0, 0, 0}, []byte{5, 0, 5, 8, 0, 1, 0, 0, 0, 0, 0, 0}},
		"no method":      {open, []byte{5, 1, 1}, []byte{5, 0xff}},
		"no password":    {locked, []byte{5, 1, 0}, []byte{5, 0xff}},
		"wrong password": {locked, []byte{5, 1, 2, 1, 2, 'm', 'e', 1, 'x'}, []byte{5, 2, 1, 1}},
		"SOCKS4":         {open, []byte{4, 1, 0, 80, 10, 32, 0, 2, 0}, []byte{0, 0x5b, 0, 0, 0, 0, 0, 0}},
		"cut short":      {open, []byte{5, 1, 0, 5, 1, 0, 1, 10}, []byte{5, 0}},
	} {
		if got := talk(t, c.to, c.send); !bytes.Equal(got, c.want) {
			t.Errorf("%s: got % x, want % x", name, got, c.want)
		}
	}
}

// webServer serves HTTP on the overlay and tells what it was asked.
func webServer(t testing.TB, h *Host) (port uint16) {
	t.Helper()
	l, err := h.ListenTCP(netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %q %d", r.Method, r.Host, r.URL.Path, r.Header.Get("Proxy-Authorization"), len(body))
	}))
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return addrPort(l.Addr()).Port()
}

func TestHTTPProxy(t *testing.T) {
	a, b, _ := pair(t, Config{})
	port := webServer(t, b)
	through := &url.URL{Scheme: "http", Host: newProxy(t, a, ProxyConfig{Resolve: weaveNames, User: "me", Password: "secret"}), User: url.UserPassword("me", "secret")}
	tr := &http.Transport{Proxy: http.ProxyURL(through)}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	host := fmt.Sprintf("web.weave.local:%d", port)
	resp, err := client.Post("http://"+host+"/path", "text/plain", bytes.NewReader(make([]byte, 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintf(`POST %s /path "" %d`, host, 1<<20); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	resp.Body.Close()
	for target, want := range map[string]int{
		"http://db.weave.local/":                 http.StatusNotFound,
		"http://" + addrB.Addr().String() + ":9": http.StatusBadGateway,
	} {
		resp, err := client.Get(target)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v, %v, want status %d", target, resp, err, want)
			continue
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.HasPrefix(string(text), "weave proxy: ") {
			t.Errorf("%s: %q does not say who refuses", target, text)
		}
	}
}

func TestHTTPConnect(t *testing.T) {
	a, b, _ := pair(t, Config{})
	port := listenOverlay(t, b, netip.IPv4Unspecified(), echo).Port()
	addr := newProxy(t, a, ProxyConfig{Resolve: weaveNames})
	// What follows the request at once is not lost, and the end goes through.
	got := talk(t, addr, fmt.Appendf(nil, "CONNECT web.weave.local:%d HTTP/1.1\r\nHost: x\r\n\r\nearly bird", port))
	if want := "HTTP/1.1 200 Connection established\r\n\r\nearly bird"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	locked := newProxy(t, a, ProxyConfig{User: "me", Password: "secret"})
	for send, want := range map[string]string{
		"CONNECT web.weave.local HTTP/1.1\r\nHost: x\r\n\r\n":                                     "HTTP/1.1 400 ",
		"CONNECT web.weave.local:0 HTTP/1.1\r\nHost: x\r\n\r\n":                                   "HTTP/1.1 400 ",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                                                       "HTTP/1.1 400 ",
		"rubbish\r\n\r\n":                                                                         "HTTP/1.1 400 ",
		"CONNECT nobody.weave.local:80 HTTP/1.1\r\nHost: x\r\n\r\n":                               "HTTP/1.1 404 ",
		"GET http://web.weave.local/ HTTP/1.1\r\nX: " + strings.Repeat("x", maxHead) + "\r\n\r\n": "HTTP/1.1 400 ",
	} {
		if got := talk(t, addr, []byte(send)); !strings.HasPrefix(string(got), want) {
			t.Errorf("%.40q: got %.60q, want %q", send, got, want)
		}
	}
	if got := talk(t, locked, []byte("CONNECT web.weave.local:80 HTTP/1.1\r\nHost: x\r\n\r\n")); !strings.HasPrefix(string(got), "HTTP/1.1 407 ") {
		t.Errorf("without a password: %.60q", got)
	}
}

func FuzzSOCKS(f *testing.F) {
	f.Add([]byte{5, 1, 0, 5, 1, 0, 1, 10, 32, 0, 2, 0, 80})
	f.Add([]byte{5, 2, 0, 2, 5, 1, 0, 3, 3, 'w', 'e', 'b', 0, 80})
	f.Add([]byte{5, 0, 5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		if _, err := readSOCKSMethods(r); err != nil {
			return
		}
		host, _, err := readSOCKSRequest(r)
		if err == nil && host == "" {
			t.Error("a request without a host")
		}
		_, _, _ = readSOCKSPassword(bytes.NewReader(data))
	})
}

func FuzzHTTPTarget(f *testing.F) {
	f.Add("CONNECT", "web.weave.local:80")
	f.Add("GET", "http://[fd00::1]/x")
	f.Add("POST", "http://a:b@c:99999/")
	f.Fuzz(func(t *testing.T, method, target string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: h\r\n\r\n")))
		if err != nil {
			return
		}
		host, port, err := httpTarget(r)
		if err == nil && (host == "" || port == 0) {
			t.Errorf("%s %q: host %q, port %d", method, target, host, port)
		}
	})
}
