package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// TLS says how TCP listeners encrypt. Files are in PEM.
type TLS struct {
	On        bool
	Verify    bool // clients need a certificate of CA; implies On
	CA        string
	Cert, Key string
}

// Endpoints say where to listen.
type Endpoints struct {
	// Socket is the one unix socket that is listened on; other unix paths are symbolic links to it.
	Socket string
	// List is what the user asked for: [tcp://][HOST]:PORT or [unix://]/PATH. Socket is listened on if any is unix.
	List []string
	// Like is a unix socket whose mode and owner Socket gets, if it is there: the engine's.
	Like string
	TLS  TLS
}

// Listeners are what Run serves.
type Listeners struct {
	all   []net.Listener
	tcp   []string // as clients are told
	links []string
	main  string // "" = not listened on
}

//lint:ignore ST1005 scripts look for it, as Weave Net wrote it
var errRelative = errors.New("When launching the proxy, unix sockets must be specified as an absolute path.")

// ParseEndpoint reads one endpoint: network "unix" or "tcp", and its address.
func ParseEndpoint(text string) (network, address string, err error) {
	scheme, rest, has := strings.Cut(text, "://")
	if !has {
		scheme, rest = "tcp", text
		if strings.HasPrefix(text, "/") {
			scheme = "unix"
		}
	}
	switch scheme {
	case "unix":
		if !strings.HasPrefix(rest, "/") {
			return "", "", errRelative
		}
		return scheme, filepath.Clean(rest), nil
	case "tcp":
		host, port, err := net.SplitHostPort(rest)
		if err != nil || port == "" {
			return "", "", fmt.Errorf("invalid endpoint %q, should be [tcp://][IP]:PORT or [unix://]/PATH", text)
		}
		if host == "" {
			host = "0.0.0.0"
		}
		return scheme, net.JoinHostPort(host, port), nil
	}
	return "", "", fmt.Errorf("invalid endpoint %q, should be [tcp://][IP]:PORT or [unix://]/PATH", text)
}

// Listen opens the endpoints. The caller hands Listeners to Run, which closes them, and calls Close in the end.
func Listen(e Endpoints) (_ *Listeners, err error) {
	l := &Listeners{}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	for _, text := range e.List {
		network, address, err := ParseEndpoint(text)
		if err != nil {
			return nil, err
		}
		if network == "unix" {
			if err := l.unix(e, address); err != nil {
				return nil, fmt.Errorf("proxy: %w", err)
			}
			continue
		}
		if err := l.listenTCP(address, e.TLS); err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
	}
	return l, nil
}

// Listeners returns the sockets.
func (l *Listeners) Listeners() []net.Listener { return l.all }

// Addresses lists the endpoints as clients are told: TCP, then the links, then the socket.
func (l *Listeners) Addresses() []string {
	out := slices.Clone(l.tcp)
	for _, path := range l.links {
		out = append(out, "unix://"+path)
	}
	if l.main != "" {
		out = append(out, "unix://"+l.main)
	}
	return out
}

// Close closes the sockets and removes them and the links. It may be called again.
func (l *Listeners) Close() {
	for _, s := range l.all {
		_ = s.Close()
	}
	for _, path := range l.links {
		if to, err := os.Readlink(path); err == nil && to == l.main {
			_ = os.Remove(path)
		}
	}
}

func (l *Listeners) listenTCP(address string, t TLS) error {
	s, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	l.all = append(l.all, s)
	host, _, _ := net.SplitHostPort(address) // it was put together by us
	_, port, _ := net.SplitHostPort(s.Addr().String())
	l.tcp = append(l.tcp, "tcp://"+net.JoinHostPort(host, port))
	if !t.On && !t.Verify {
		return nil
	}
	cfg, err := t.config()
	if err != nil {
		return err
	}
	l.all[len(l.all)-1] = tls.NewListener(s, cfg)
	return nil
}

func (t TLS) config() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot use the TLS certificate %s with key %s: %w", t.Cert, t.Key, err)
	}
	// Switching protocols is HTTP/1.1's, so nothing else is offered.
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if !t.Verify {
		return cfg, nil
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("cannot read the CA that clients' certificates are to be of: %w", err)
	}
	cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", t.CA)
	}
	return cfg, nil
}

// unix listens on the socket once, and links path to it.
func (l *Listeners) unix(e Endpoints, path string) error {
	if l.main == "" {
		s, err := listenUnix(e.Socket, e.Like)
		if err != nil {
			return err
		}
		l.main = e.Socket
		l.all = append(l.all, s)
	}
	if same(path, l.main) || slices.Contains(l.links, path) {
		return nil
	}
	if err := makeRoom(path); err != nil {
		return err
	}
	if err := os.Symlink(l.main, path); err != nil {
		return err
	}
	l.links = append(l.links, path)
	return nil
}

// same tells whether two paths lead to one file, as /run and /var/run do.
func same(a, b string) bool {
	if a == b {
		return true
	}
	infoA, errA := os.Stat(filepath.Dir(a))
	infoB, errB := os.Stat(filepath.Dir(b))
	return errA == nil && errB == nil && filepath.Base(a) == filepath.Base(b) && os.SameFile(infoA, infoB)
}

// makeRoom makes the directory of a socket and removes a socket or link that is left over.
func makeRoom(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case info.Mode()&os.ModeSymlink != 0:
	case info.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("%s is there and is no socket; remove it, or choose another with -H", path)
	default:
		conn, err := net.Dial("unix", path)
		if err == nil {
			_ = conn.Close()
			return fmt.Errorf("another process listens on %s; stop it, or choose another socket with -H", path)
		}
	}
	return os.Remove(path)
}

func listenUnix(path, like string) (net.Listener, error) {
	if err := makeRoom(path); err != nil {
		return nil, err
	}
	s, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := copyRights(path, like); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// copyRights lets those use the socket who may use the engine's; without that its owner only.
func copyRights(path, like string) error {
	mode, uid, gid := os.FileMode(0o600), os.Geteuid(), os.Getegid()
	if info, err := os.Stat(like); err == nil && like != "" {
		mode = info.Mode().Perm()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			uid, gid = int(st.Uid), int(st.Gid)
		}
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
