package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// SocketName is the name of the control socket inside the run directory.
const SocketName = "weave-api.sock"

const (
	maxBody        = 1 << 20         // bytes of a request's body
	maxHeader      = 64 << 10        // bytes of a request's header, query included
	maxReaders     = 64              // connections of a read-only listener at a time
	headerTimeout  = 5 * time.Second // for the request's header
	requestTimeout = 15 * time.Second
	replyTimeout   = 30 * time.Second // read-only listeners; others may wait for work to be done
	idleTimeout    = time.Minute
	shutdownGrace  = 5 * time.Second // for requests in flight when the server ends
)

// Config says where a Server listens.
type Config struct {
	// Socket is the path of the control socket. Its directory exists and belongs to the daemon's user alone.
	Socket string
	// HTTPAddr and StatusAddr are host:port for a read-only TCP listener, an absolute path for a unix socket, or ""
	// for none. HTTPAddr as a path serves everything, StatusAddr only what can be read.
	HTTPAddr   string
	StatusAddr string
	Instance   string   // served at /instance
	Resolver   Resolver // for the names given to /connect; nil is the system's
	Log        *slog.Logger
}

// Server serves the daemon's API.
type Server struct {
	cfg      Config
	backends Backends
	faces    []face
}

// face is one listener and what it shows.
type face struct {
	listener net.Listener
	server   *http.Server
	control  bool // without it the daemon is of no use
}

// Listen opens the sockets of cfg. A control socket that cannot be opened is an error; a read-only listener that
// cannot is logged and left out, so that two daemons on one machine do not keep each other from starting. The caller
// must call Run, which closes the sockets.
func Listen(cfg Config, backends Backends) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, backends: backends}
	control, err := listenUnix(cfg.Socket)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	s.add(control, true, true)
	s.listenExtra("http-addr", cfg.HTTPAddr, true)
	s.listenExtra("status-addr", cfg.StatusAddr, false)
	return s, nil
}

func (s *Server) listenExtra(flag, addr string, write bool) {
	switch {
	case addr == "":
	case strings.HasPrefix(addr, "/"):
		l, err := listenUnix(addr)
		if err != nil {
			s.cfg.Log.Warn("cannot listen; going on without it", "flag", flag, "addr", addr, "err", err)
			return
		}
		s.add(l, write, false)
	default:
		l, err := net.Listen("tcp", addr)
		if err != nil {
			s.cfg.Log.Warn("cannot listen; going on without it", "flag", flag, "addr", addr, "err", err)
			return
		}
		s.add(netutil.LimitListener(l, maxReaders), false, false)
	}
}

func (s *Server) add(l net.Listener, write, control bool) {
	h := http.Handler(s.readRoutes())
	if write {
		h = s.writeRoutes()
	}
	srv := &http.Server{
		Handler:           s.guard(h),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	if l.Addr().Network() == "unix" {
		srv.ConnContext = withCredentials
		srv.Handler = onlyOwner(srv.Handler)
	} else {
		srv.WriteTimeout = replyTimeout
	}
	s.faces = append(s.faces, face{listener: l, server: srv, control: control})
}

// Addrs lists the addresses listened on, the control socket first.
func (s *Server) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(s.faces))
	for i, f := range s.faces {
		addrs[i] = f.listener.Addr()
	}
	return addrs
}

// Run serves until ctx ends, then waits a few seconds for requests in flight. It returns an error only when the
// control socket failed.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Requests outlive ctx by the grace period, so that a stop is still answered.
	base, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	var serving sync.WaitGroup
	for _, f := range s.faces {
		f.server.BaseContext = func(net.Listener) context.Context { return base }
		serving.Go(func() {
			err := f.server.Serve(f.listener)
			if errors.Is(err, http.ErrServerClosed) {
				return
			}
			s.cfg.Log.Error("listener failed", "addr", f.listener.Addr().String(), "err", err)
			if f.control {
				cancel(fmt.Errorf("api: serve %s: %w", f.listener.Addr(), err))
			}
		})
	}
	<-ctx.Done()
	s.shutdown(abandon)
	serving.Wait()
	if cause := context.Cause(ctx); cause != ctx.Err() { // identity: was it our own cause?
		return cause
	}
	return nil
}

func (s *Server) shutdown(abandon context.CancelFunc) {
	grace, done := context.WithTimeout(context.Background(), shutdownGrace)
	defer done()
	var closing sync.WaitGroup
	for _, f := range s.faces {
		closing.Go(func() {
			if f.server.Shutdown(grace) != nil {
				abandon()
				f.server.Close()
			}
		})
	}
	closing.Wait()
}

// listenUnix opens a socket that only our user and root can connect to. A socket left behind by a daemon that died
// is replaced; one that answers is not, nor is anything that is not a socket.
func listenUnix(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket path %s has %d bytes, the kernel takes %d: choose a shorter WEAVE_RUN_DIR",
			path, len(path), maxSocketPath)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is in the way and is not a socket: remove it", path)
		}
		if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
			conn.Close()
			return nil, fmt.Errorf("another daemon answers on %s", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// maxSocketPath is what fits into sockaddr_un (unix(7)): 108 bytes with the terminating zero.
const maxSocketPath = 107
