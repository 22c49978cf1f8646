package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// upgradeStream is what a client asks to make of its connection (RFC 9110, section 7.8).
const upgradeStream = "weave-stream"

// headerAddress says whom a stream leads to, IP:PORT.
const headerAddress = "Weave-Address"

func (s *Server) addHostRoutes(mux *http.ServeMux, b HostPrograms) {
	mux.HandleFunc("POST /hostproxy", func(w http.ResponseWriter, r *http.Request) {
		at := r.Form.Get("at")
		if _, err := netip.ParseAddrPort(at); err != nil && at != "" {
			fail(w, BadRequest("invalid address "+strconv.Quote(at)+", should be IP:PORT"))
			return
		}
		at, err := b.HostProxy(r.Context(), at)
		if err != nil {
			fail(w, err)
			return
		}
		writeText(w, at+"\n")
	})
	mux.HandleFunc("GET /ping/{host}", func(w http.ResponseWriter, r *http.Request) {
		addr, took, err := b.Ping(r.Context(), r.PathValue("host"))
		if err != nil {
			fail(w, err)
			return
		}
		writeText(w, fmt.Sprintf("%s %.3f ms\n", addr, float64(took)/float64(time.Millisecond)))
	})
	mux.HandleFunc("POST /dial/{host}/{port}", func(w http.ResponseWriter, r *http.Request) { dialled(w, r, b) })
}

// dialled makes a stream of the request's connection.
func dialled(w http.ResponseWriter, r *http.Request, b HostPrograms) {
	port, err := strconv.ParseUint(r.PathValue("port"), 10, 16)
	if err != nil || port == 0 || r.Header.Get("Upgrade") != upgradeStream {
		fail(w, BadRequest("invalid port "+strconv.Quote(r.PathValue("port"))))
		return
	}
	far, err := b.Dial(r.Context(), r.PathValue("host"), uint16(port))
	if err != nil {
		fail(w, err)
		return
	}
	defer far.Close()
	w.Header().Set(headerAddress, far.RemoteAddr().String())
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", upgradeStream)
	w.WriteHeader(http.StatusSwitchingProtocols)
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer near.Close()
	_ = near.SetDeadline(time.Time{}) // those of the request are over
	var ways sync.WaitGroup
	ways.Go(func() { pour(far, buffered.Reader) })
	pour(near, far)
	ways.Wait()
}

// pour copies to the end and passes that on.
func pour(to net.Conn, from io.Reader) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// HostProxy has programs of the host connect at an address; "" ends that.
func (c *Client) HostProxy(ctx context.Context, at string) (string, error) {
	return c.post(ctx, "/hostproxy", url.Values{"at": {at}})
}

// Ping asks a host on the network for an answer, once.
func (c *Client) Ping(ctx context.Context, host string) (string, error) {
	return c.do(ctx, http.MethodGet, "/ping/"+url.PathEscape(host), nil, "")
}

// Stream is a connection to a port of a host on the network. Reads may come from a buffer.
type Stream struct {
	*net.UnixConn
	To       string // the address that it leads to, IP:PORT
	buffered *bufio.Reader
}

// Read implements io.Reader.
func (s *Stream) Read(b []byte) (int, error) { return s.buffered.Read(b) }

// Dial connects to a TCP port of a host on the network, by way of the daemon whose socket is at path.
func Dial(ctx context.Context, path, host string, port uint16) (*Stream, error) {
	d := net.Dialer{Timeout: connectTimeout}
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, ErrNotRunning
	}
	target := fmt.Sprintf("http://weave/dial/%s/%d", url.PathEscape(host), port)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err == nil {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", upgradeStream)
		err = req.Write(conn)
	}
	s := &Stream{UnixConn: conn.(*net.UnixConn), buffered: bufio.NewReader(conn)}
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(s.buffered, req)
	}
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		err = &StatusError{Code: resp.StatusCode, Text: string(text)}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	s.To = resp.Header.Get(headerAddress)
	return s, nil
}
