package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
)

// hijack passes on a request whose connection may become a stream of bytes both ways (Engine API, "Attach to a container":
// 101 UPGRADED, or 200 and then raw), with the ends of both directions on their own.
func (p *Proxy) hijack(w http.ResponseWriter, r *http.Request) {
	engine, err := p.dial(r.Context())
	if err != nil {
		p.failed(w, r, err)
		return
	}
	defer engine.Close()
	stop := closeWith(r, engine)
	defer stop()
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = "http", "docker"
	if out.Header.Get("Upgrade") != "" {
		out.Header.Set("Connection", "Upgrade")
	}
	if err := out.Write(engine); err != nil {
		p.failed(w, r, err)
		return
	}
	answer := bufio.NewReader(engine)
	resp, err := http.ReadResponse(answer, out)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	defer resp.Body.Close()
	raw := resp.StatusCode == http.StatusSwitchingProtocols ||
		(resp.StatusCode == http.StatusOK && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0)
	if !raw {
		forward(w, resp)
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.failed(w, r, err)
		return
	}
	defer client.Close()
	if err := writeHead(buffered.Writer, resp); err != nil {
		return
	}
	splice(client, buffered.Reader, engine, answer)
}

// closeWith closes a connection when the request's context ends, until stop is called.
func closeWith(r *http.Request, c net.Conn) (stop func()) {
	done := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		select {
		case <-r.Context().Done():
			_ = c.Close()
		case <-done:
		}
	})
	return func() { close(done); waiting.Wait() }
}

// forward passes on an ordinary answer.
func forward(w http.ResponseWriter, resp *http.Response) {
	for key, values := range resp.Header {
		w.Header()[key] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(flusher{w, http.NewResponseController(w)}, resp.Body)
}

// flusher sends on at once what it gets.
type flusher struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (f flusher) Write(b []byte) (int, error) {
	n, err := f.ResponseWriter.Write(b)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}

// writeHead writes an answer's status and header as they came.
func writeHead(w *bufio.Writer, resp *http.Response) error {
	_, err := w.WriteString("HTTP/1.1 " + resp.Status + "\r\n")
	err = errors.Join(err, resp.Header.Write(w))
	_, last := w.WriteString("\r\n")
	return errors.Join(err, last, w.Flush())
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
