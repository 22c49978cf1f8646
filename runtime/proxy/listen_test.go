package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseEndpoint(t *testing.T) {
	for text, want := range map[string]string{
		"tcp://0.0.0.0:12375": "tcp 0.0.0.0:12375", "10.0.0.1:80": "tcp 10.0.0.1:80", ":80": "tcp 0.0.0.0:80", "tcp://:80": "tcp 0.0.0.0:80",
		"[::1]:80": "tcp [::1]:80", "unix:///run/x.sock": "unix /run/x.sock", "/run//x.sock": "unix /run/x.sock",
		"unix://x.sock": errRelative.Error(), "unix://": errRelative.Error(), "x.sock": "invalid endpoint", "http://x:1": "invalid endpoint", "": "invalid endpoint",
		"tcp://x": "invalid endpoint", "x:": "invalid endpoint",
	} {
		network, address, err := ParseEndpoint(text)
		got := network + " " + address
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func open(t *testing.T, e Endpoints) *Listeners {
	t.Helper()
	l, err := Listen(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// TestSockets: one socket, with the engine's rights; links to it; what was left over makes room.
func TestSockets(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	like, err := net.Listen("unix", at("docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer like.Close()
	if err := os.Chmod(at("docker.sock"), 0o620); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(at("docker.sock"), 7, 8); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(at("deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	leaveSocket(t, at("deep/weave.sock"))
	leaveSocket(t, at("old.sock"))
	if err := os.Symlink("nowhere", at("link.sock")); err != nil {
		t.Fatal(err)
	}
	e := Endpoints{Socket: at("deep/weave.sock"), Like: at("docker.sock"), List: []string{
		at("old.sock"), "127.0.0.1:0", "unix://" + at("link.sock"), "unix://" + at("deep/weave.sock"), at("new/dir/x.sock"), at("old.sock"),
	}}
	l := open(t, e)
	addrs := l.Addresses()
	if len(addrs) != 5 || !strings.HasPrefix(addrs[0], "tcp://127.0.0.1:") || strings.Join(addrs[1:], " ") !=
		"unix://"+at("old.sock")+" unix://"+at("link.sock")+" unix://"+at("new/dir/x.sock")+" unix://"+at("deep/weave.sock") {
		t.Errorf("addresses %q", addrs)
	}
	if len(l.Listeners()) != 2 {
		t.Errorf("%d listeners", len(l.Listeners()))
	}
	info, err := os.Stat(at("old.sock"))
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if info.Mode().Perm() != 0o620 || os.Geteuid() == 0 && (st.Uid != 7 || st.Gid != 8) {
		t.Errorf("%v, owner %d:%d", info.Mode(), st.Uid, st.Gid)
	}
	if _, err := Listen(e); err == nil || !strings.Contains(err.Error(), "another process listens on") {
		t.Errorf("a socket in use: %v", err)
	}
	l.Close()
	for _, gone := range []string{"old.sock", "link.sock", "new/dir/x.sock", "deep/weave.sock"} {
		if _, err := os.Lstat(at(gone)); err == nil {
			t.Errorf("%s is left", gone)
		}
	}
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Endpoints{Socket: at("s"), List: []string{at("file")}}); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file: %v", err)
	}
	only := open(t, Endpoints{Socket: at("s"), List: []string{"127.0.0.1:0"}})
	if _, err := os.Lstat(at("s")); err == nil || len(only.Addresses()) != 1 {
		t.Errorf("the socket is there although only TCP was asked for: %q", only.Addresses())
	}
}

// leaveSocket leaves the socket of a process that died.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
	n    int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.issue(t, "ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue makes a certificate with its key, in the files NAME.pem and NAME-key.pem.
func (a *authority) issue(t *testing.T, name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.n++
	c.SerialNumber, c.Subject = big.NewInt(a.n), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, name+".pem", "CERTIFICATE", der)
	a.write(t, name+"-key.pem", "EC PRIVATE KEY", secret)
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out, key
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// TestTLS: a certificate of the server only, or of both; the streams of attach as ever; sockets stay clear.
func TestTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue(t, "server", &x509.Certificate{})
	a.issue(t, "client", &x509.Certificate{})
	stranger := newAuthority(t)
	stranger.issue(t, "client", &x509.Certificate{})
	for _, verify := range []bool{false, true} {
		upstream := engineOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/attach" {
				_, _ = io.WriteString(w, "pong")
				return
			}
			conn, buf, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
			_, _ = io.Copy(conn, buf) // ends with the client's half
			_, _ = io.WriteString(conn, "bye")
		}))
		l := open(t, Endpoints{
			Socket: filepath.Join(t.TempDir(), "s"), List: []string{"127.0.0.1:0", filepath.Join(t.TempDir(), "link")},
			TLS: TLS{On: true, Verify: verify, CA: a.file("ca.pem"), Cert: a.file("server.pem"), Key: a.file("server-key.pem")},
		})
		cfg := settings(t)
		cfg.Upstream = "unix://" + upstream.Addr().String()
		p, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx, l.Listeners()) }()
		address := strings.TrimPrefix(l.Addresses()[0], "tcp://")
		if got := secure(t, a, "", a, address); (got == "pong") == verify {
			t.Errorf("verify %v: without a certificate: %s", verify, got)
		}
		if got := secure(t, stranger, "client", a, address); (got == "pong") == verify {
			t.Errorf("verify %v: a stranger: %s", verify, got)
		}
		if got := secure(t, a, "client", a, address); got != "pong" {
			t.Errorf("verify %v: %s", verify, got)
		}
		resp, err := clientOf(strings.TrimPrefix(l.Addresses()[1], "unix://")).Get("http://docker/_ping")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		secureStream(t, a, address)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []TLS{
		{On: true, Cert: "/absent", Key: "/absent"},
		{Verify: true, Cert: a.file("server.pem"), Key: a.file("server-key.pem"), CA: "/absent"},
		{Verify: true, Cert: a.file("server.pem"), Key: a.file("server-key.pem"), CA: a.file("server-key.pem")},
	} {
		if _, err := Listen(Endpoints{List: []string{"127.0.0.1:0"}, TLS: bad}); err == nil {
			t.Errorf("%+v is fine", bad)
		}
	}
}

func clientTLS(t *testing.T, own *authority, name string, trusted *authority) *tls.Config {
	t.Helper()
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
	cfg.RootCAs.AddCert(trusted.cert)
	if name != "" {
		pair, err := tls.LoadX509KeyPair(own.file(name+".pem"), own.file(name+"-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return cfg
}

// secure says what a ping is answered with, or the error.
func secure(t *testing.T, own *authority, name string, trusted *authority, address string) string {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: clientTLS(t, own, name, trusted), ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get("https://" + address + "/_ping")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

func secureStream(t *testing.T, a *authority, address string) {
	t.Helper()
	c, err := tls.Dial("tcp", address, clientTLS(t, a, "client", a))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	say(t, c, "POST /attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	expect(t, c, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	say(t, c, "hello")
	expect(t, c, "hello")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "bye")
	expectEnd(t, c)
}
