package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	readBuffer  = 32 << 10
	headTimeout = 5 * time.Minute        // from the first byte of a request to the end of its head, as in Docker's server
	lingerTime  = 500 * time.Millisecond // for a client that still sends what nobody will read
)

// side is one of the two connections of a session. What comes first on it, a byte or its end, is looked for while it is
// idle; nobody else reads meanwhile.
type side struct {
	conn  net.Conn
	r     *bufio.Reader
	first chan error // has room for the outcome of the look that is under way
}

// session is a client's connection and the one to the engine that serves it.
//
//	        client.first         request head          response head
//	idle ────────────────► ask ──────────────► answer ───────────────► idle
//	                             body goes on beside it   └─ endless ──► tunnel
type session struct {
	p      *Proxy
	client *side
	engine *side // nil: none, or it ended
	parts  sync.WaitGroup
	cancel context.CancelFunc // closes both
}

func (s *session) run(ctx context.Context, conn net.Conn) {
	ctx, s.cancel = context.WithCancel(ctx)
	defer s.parts.Wait()
	defer s.cancel()
	s.client = s.open(ctx, conn)
	s.look(s.client)
	for s.exchange(ctx) {
	}
	s.linger()
}

// open makes a side, whose connection is closed when the session ends.
func (s *session) open(ctx context.Context, conn net.Conn) *side {
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return &side{conn: conn, r: bufio.NewReaderSize(conn, readBuffer)}
}

// look begins to wait for what comes first.
func (s *session) look(of *side) {
	first := make(chan error, 1)
	of.first = first
	s.parts.Go(func() {
		_, err := of.r.Peek(1)
		first <- err
	})
}

// exchange serves one request. It tells whether another may follow.
func (s *session) exchange(ctx context.Context) bool {
	err := <-s.client.first
	s.client.first = nil
	if err != nil {
		return false
	}
	_ = s.client.conn.SetReadDeadline(time.Now().Add(headTimeout))
	req, err := readRequest(s.client.r)
	_ = s.client.conn.SetReadDeadline(time.Time{})
	if err != nil {
		return s.malformed(err)
	}
	body, err := req.body()
	if err != nil {
		return s.malformed(err)
	}
	req.head = req.hosted()
	c := callOf(req.method, req.target)
	message, rest := req.bytes(), body
	if changes(c) && body != nil {
		changed, instead, err := s.change(ctx, c, req, body)
		switch {
		case errors.Is(err, errBodyTooLong):
			text := fmt.Sprintf("the body of this request is longer than the %d bytes that weave's proxy takes", maxRequest)
			return s.refuse(failure(c, http.StatusRequestEntityTooLarge, text))
		case err != nil:
			return s.malformed(err)
		case instead != nil:
			s.look(s.client)
			return s.send(instead, false) && !req.closes(req.version)
		}
		message, rest = append(req.withBody(len(changed)).bytes(), changed...), nil
	}
	if err := s.ask(ctx, message); err != nil {
		s.p.cfg.Log.Warn("cannot reach the engine", "engine", s.p.cfg.Upstream, "err", err)
		return s.refuse(failure(c, http.StatusInternalServerError, notReachable+": "+err.Error()))
	}
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	s.follow(gone, rest)
	return s.answer(ctx, c, req) && !req.closes(req.version)
}

// changes tells whether a call's body may be changed.
func changes(c call) bool {
	return c.kind == create || c.kind == exec || c.kind == start && c.before(1, 24)
}

// change reads a body and makes it ours.
func (s *session) change(ctx context.Context, c call, req request, f frame) ([]byte, *reply, error) {
	if req.has("Expect", "100-continue") {
		if _, err := io.WriteString(s.client.conn, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return nil, nil, err
		}
	}
	body, err := readBody(s.client.r, f, maxRequest)
	if err != nil {
		return nil, nil, err
	}
	switch c.kind {
	case create:
		changed, instead := s.p.create(ctx, c, body)
		return changed, instead, nil
	case exec:
		return s.p.exec(ctx, c, body), nil, nil
	}
	return s.p.startOld(ctx, c, body), nil, nil
}

// ask sends the beginning of a request, over a new connection if the last one has ended.
func (s *session) ask(ctx context.Context, message []byte) error {
	if s.engine != nil {
		select {
		case <-s.engine.first: // its end, or something that nobody asked for
		default:
			if _, err := s.engine.conn.Write(message); err == nil {
				return nil
			}
		}
		_ = s.engine.conn.Close()
		s.engine = nil
	}
	conn, err := s.p.engine.dial(ctx)
	if err != nil {
		return err
	}
	s.engine = s.open(ctx, conn)
	s.look(s.engine)
	_, err = conn.Write(message)
	return err
}

// follow passes the rest of the request on beside the response, and then looks what the client does next. If it ends its
// side, the engine is told, as it would be without us.
func (s *session) follow(gone context.CancelFunc, f frame) {
	client, engine := s.client, s.engine
	first := make(chan error, 1)
	client.first = first
	s.parts.Go(func() {
		err := copyBody(engine.conn, client.r, f)
		if err == nil {
			_, err = client.r.Peek(1)
		}
		if _, refused := errors.AsType[*writeError](err); err != nil && !refused {
			closeWrite(engine.conn)
			gone()
		}
		first <- err
	})
}

// answer passes the response on. It tells whether another exchange may follow.
func (s *session) answer(ctx context.Context, c call, req request) bool {
	if err := <-s.engine.first; err != nil {
		return false
	}
	resp, err := s.finalHead()
	if err != nil {
		s.p.cfg.Log.Debug("no response", "request", req.first, "err", err)
		return false
	}
	f, endless, err := resp.body(req.method)
	if err != nil {
		s.p.cfg.Log.Debug("no response", "request", req.first, "err", err)
		return false
	}
	if endless {
		s.tunnel(resp)
		return false
	}
	goesOn := !resp.closes(resp.version)
	switch {
	case c.kind == start && (resp.status < 300 || resp.status == http.StatusNotModified):
		if instead := s.p.attached(ctx, c, resp.status); instead != nil {
			if copyBody(io.Discard, s.engine.r, f) != nil {
				return false
			}
			s.look(s.engine)
			return s.send(instead, !goesOn) && goesOn
		}
	case s.p.cfg.RewriteInspect && (c.kind == inspect || c.kind == execInspect) && resp.status == http.StatusOK &&
		len(resp.values("Content-Encoding")) == 0:
		return s.answerInspect(ctx, c, resp, f) && goesOn
	}
	if _, err := s.client.conn.Write(resp.bytes()); err != nil {
		return false
	}
	if err := copyBody(s.client.conn, s.engine.r, f); err != nil {
		return false
	}
	s.look(s.engine)
	return goesOn
}

// finalHead passes interim responses on and returns the head of the one that counts.
func (s *session) finalHead() (response, error) {
	for {
		resp, err := readResponse(s.engine.r)
		if err != nil || !resp.interim() {
			return resp, err
		}
		if _, err := s.client.conn.Write(resp.bytes()); err != nil {
			return resp, err
		}
	}
}

// answerInspect changes a response.
func (s *session) answerInspect(ctx context.Context, c call, resp response, f frame) bool {
	body, err := readBody(s.engine.r, f, maxInspect)
	if err != nil {
		s.p.cfg.Log.Warn("cannot read an inspection", "err", err)
		return false
	}
	s.look(s.engine)
	if c.kind == inspect {
		body = s.p.inspect(ctx, body)
	} else {
		body = s.p.execInspect(ctx, body)
	}
	_, err = s.client.conn.Write(append(resp.withBody(len(body)).bytes(), body...))
	return err == nil
}

// tunnel passes both directions on until both have ended.
func (s *session) tunnel(resp response) {
	if _, err := s.client.conn.Write(resp.bytes()); err != nil {
		return
	}
	up, first := make(chan struct{}), s.client.first
	s.client.first = nil
	s.parts.Go(func() {
		defer close(up)
		if <-first == nil {
			_, _ = io.Copy(s.engine.conn, s.client.r)
			closeWrite(s.engine.conn)
		}
	})
	if _, err := io.Copy(s.client.conn, s.engine.r); err != nil {
		s.cancel()
	}
	closeWrite(s.client.conn)
	<-up
}

// send gives a reply of ours.
func (s *session) send(r *reply, last bool) bool {
	connection := ""
	if last {
		connection = "Connection: close\r\n"
	}
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\n%s: %s\r\n%sContent-Length: %d\r\n\r\n",
		r.status, http.StatusText(r.status), contentType, r.kind, connection, len(r.body))
	_, err := s.client.conn.Write(append([]byte(head), r.body...))
	return err == nil
}

// refuse gives a reply and ends the session, of whose request a part may be unread.
func (s *session) refuse(r *reply) bool {
	if s.send(r, true) {
		s.discard()
	}
	return false
}

// discard ends our side and takes for a moment what the client still sends: closed with bytes unread, the kernel would
// throw away the reply as well.
func (s *session) discard() {
	closeWrite(s.client.conn)
	_ = s.client.conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, s.client.r)
}

// linger ends the last exchange of a session, whose response may have come before the whole request was sent.
func (s *session) linger() {
	if s.client.first == nil {
		return
	}
	closeWrite(s.client.conn)
	_ = s.client.conn.SetReadDeadline(time.Now().Add(lingerTime))
	if _, refused := errors.AsType[*writeError](<-s.client.first); refused {
		s.discard()
	}
}

// malformed answers what is no HTTP; nothing if the client just went.
func (s *session) malformed(err error) bool {
	if !errors.Is(err, errMalformed) && !errors.Is(err, errHeadTooLong) {
		return false
	}
	return s.refuse(failure(call{}, http.StatusBadRequest, "weave's proxy cannot read this request: "+err.Error()))
}

func closeWrite(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
}
