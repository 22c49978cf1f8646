package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// TLS says how tcp listeners speak TLS, as dockerd's flags of the same names do. Without On they do not.
type TLS struct {
	On, Verify        bool
	CACert, Cert, Key string // files
}

// Load reads the files.
func (t TLS) Load() (*tls.Config, error) {
	if !t.On && !t.Verify {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("proxy: TLS: %w", err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if !t.Verify {
		return cfg, nil
	}
	text, err := os.ReadFile(t.CACert)
	if err != nil {
		return nil, fmt.Errorf("proxy: TLS: %w", err)
	}
	cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !cfg.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("proxy: TLS: %s holds no certificate", t.CACert)
	}
	return cfg, nil
}

// Listen opens a listener for an endpoint: unix:///path, or tcp://host:port with TLS if cfg is not nil. A socket gets the
// owner and mode of the file like, if there is one, so that whoever may use the engine may use the proxy; one that is
// left over is replaced.
func Listen(endpoint string, cfg *tls.Config, like string) (net.Listener, error) {
	scheme, rest, ok := strings.Cut(endpoint, "://")
	switch {
	case ok && scheme == "tcp":
		l, err := net.Listen("tcp", rest)
		if err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
		if cfg != nil {
			l = tls.NewListener(l, cfg)
		}
		return l, nil
	case ok && scheme == "unix" && filepath.IsAbs(rest):
		l, err := listenUnix(rest, like)
		if err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
		return l, nil
	case ok && scheme == "unix":
		return nil, errors.New("When launching the proxy, unix sockets must be specified as an absolute path.") //lint:ignore ST1005 Weave Net's words
	}
	return nil, fmt.Errorf("proxy: cannot listen at %q, should be [tcp://][ip]:port or [unix://]/path", endpoint)
}

func listenUnix(path, like string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() != fs.ModeSocket && info.Mode().Type() != fs.ModeSymlink:
		return nil, fmt.Errorf("%s exists and is no socket", path)
	case err == nil:
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return nil, fmt.Errorf("%s is in use", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path) // writable to nobody else before the mode is set, as umasks are
	if err != nil {
		return nil, err
	}
	return l, sameAccess(path, like)
}

// sameAccess gives a file the owner, group and mode of another.
func sameAccess(path, like string) error {
	info, err := os.Stat(like)
	if err != nil {
		return os.Chmod(path, 0o660)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(path, int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return os.Chmod(path, info.Mode().Perm())
}

// tolerant accepts what old Docker clients send as their host, a path, which net/http refuses.
type tolerant struct{ net.Listener }

// Accept implements net.Listener.
func (t tolerant) Accept() (net.Conn, error) {
	c, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if _, plain := c.(*net.UnixConn); !plain {
		return c, nil
	}
	return &mended{UnixConn: c.(*net.UnixConn)}, nil
}

// mended mends the first header of a connection.
type mended struct {
	*net.UnixConn
	seen bool
}

var hostField = []byte("\r\nHost: /")

// Read implements net.Conn.
func (m *mended) Read(b []byte) (int, error) {
	n, err := m.UnixConn.Read(b)
	if m.seen || n == 0 {
		return n, err
	}
	m.seen = true
	at := bytes.Index(b[:n], hostField)
	if at < 0 {
		return n, err
	}
	at += len(hostField) - 1
	end := bytes.IndexByte(b[at:n], '\r')
	if end < 0 || bytes.Contains(b[:at], []byte("\r\n\r\n")) {
		return n, err
	}
	for i := at; i < at+end; i++ { // of the same length, so that nothing has to move
		b[i] = 'd'
	}
	return n, err
}
