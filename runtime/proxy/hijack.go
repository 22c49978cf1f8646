package proxy

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
)

// hijack passes on a request whose connection may become a stream of bytes both ways (Engine API, "Attach to a container":
// 101 UPGRADED, or 200 and then raw), with the ends of both directions on their own. The client's connection is taken over
// first: a client that has nothing to say ends its direction at once, which an HTTP server takes for its going away.
func (p *Proxy) hijack(w http.ResponseWriter, r *http.Request) {
	p.streams.Add(1)
	defer p.streams.Done()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
	if err != nil {
		refuse(w, http.StatusBadRequest, "weave: read the request: "+err.Error())
		return
	}
	ctx := context.WithoutCancel(r.Context())
	out := r.Clone(ctx)
	out.URL.Scheme, out.URL.Host = "http", "docker"
	out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	if out.Header.Get("Upgrade") != "" {
		out.Header.Set("Connection", "Upgrade")
	}
	engine, err := p.dial(ctx)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	defer engine.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.failed(w, r, err)
		return
	}
	defer client.Close()
	defer p.closeAtEnd(client, engine)()
	p.stream(out, client, buffered.Reader, engine)
}

// stream has the engine answer a request and then copies both ways, if the answer says so; any other answer is the last
// on this connection.
func (p *Proxy) stream(out *http.Request, client net.Conn, fromClient io.Reader, engine net.Conn) {
	answer := bufio.NewReader(engine)
	err := out.Write(engine)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(answer, out)
	}
	if err != nil {
		p.cfg.Log.Debug("a stream did not begin", "path", out.URL.Path, "err", err)
		return
	}
	defer resp.Body.Close()
	raw := resp.StatusCode == http.StatusSwitchingProtocols ||
		(resp.StatusCode == http.StatusOK && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0)
	if !raw {
		resp.Close = true
		_ = resp.Write(client)
		return
	}
	if writeHead(client, resp) == nil {
		splice(client, fromClient, engine, answer)
	}
}

// closeAtEnd closes connections when the proxy ends, until stop is called.
func (p *Proxy) closeAtEnd(all ...net.Conn) (stop func()) {
	done := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		select {
		case <-p.ended:
			for _, c := range all {
				_ = c.Close()
			}
		case <-done:
		}
	})
	return func() { close(done); waiting.Wait() }
}

// writeHead writes an answer's status and header as they came.
func writeHead(to io.Writer, resp *http.Response) error {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 " + resp.Status + "\r\n")
	_ = resp.Header.Write(&b) // to memory
	b.WriteString("\r\n")
	_, err := to.Write(b.Bytes())
	return err
}

// splice copies both ways until both have ended. The end of one is passed on as such: a client that has no more input
// still wants the output.
func splice(client net.Conn, fromClient io.Reader, engine net.Conn, fromEngine io.Reader) {
	var ways sync.WaitGroup
	ways.Go(func() {
		_, _ = io.Copy(engine, fromClient)
		closeWrite(engine)
	})
	_, _ = io.Copy(client, fromEngine)
	closeWrite(client)
	// An engine that has said all it had ends the exchange: many clients wait for that with their input still open.
	_ = client.Close()
	ways.Wait()
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
