package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// httpTarget says where a request wants to go. CONNECT names a host and port (RFC 9110 section 9.3.6); other methods have a whole
// http:// URL (RFC 9112 section 3.2.2).
func httpTarget(r *http.Request) (host string, port uint16, err error) {
	target := r.Host
	if r.Method != http.MethodConnect {
		if r.URL.Scheme != "http" || r.URL.Host == "" {
			return "", 0, errors.New("this is a proxy: send CONNECT, or a whole http:// URL")
		}
		target = r.URL.Host
		if r.URL.Port() == "" {
			target = net.JoinHostPort(r.URL.Hostname(), "80")
		}
	}
	host, service, err := net.SplitHostPort(target)
	if err != nil {
		return "", 0, fmt.Errorf("%q is no host:port", target)
	}
	n, err := strconv.ParseUint(service, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("%q is no host:port", target)
	}
	return host, uint16(n), nil
}

// serveHTTP serves one request of a program.
func (p *Proxy) serveHTTP(ctx context.Context, b *buffered) {
	r, err := http.ReadRequest(b.r)
	if err != nil {
		if !errors.Is(err, io.EOF) {
			refuseHTTP(b, http.StatusBadRequest, "the request makes no sense")
		}
		return
	}
	host, port, err := httpTarget(r)
	if err != nil {
		p.h.count.connsRefused.Add(1)
		refuseHTTP(b, http.StatusBadRequest, err.Error())
		return
	}
	user, password, _ := basicAuth(r)
	if p.cfg.Password != "" && !p.admits(user, password) {
		p.h.count.connsRefused.Add(1)
		refuseHTTP(b, http.StatusProxyAuthRequired, "user and password are needed, or wrong")
		return
	}
	out, err := p.dial(ctx, host, port)
	if err != nil {
		refuseHTTP(b, httpCode(err), err.Error())
		return
	}
	if r.Method != http.MethodConnect {
		p.request(ctx, b, r, out)
		return
	}
	if _, err := io.WriteString(b, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		out.Abort()
		return
	}
	p.carry(ctx, b, out)
}

// request passes one plain request on, and its answer back.
func (p *Proxy) request(ctx context.Context, b *buffered, r *http.Request, out *Conn) {
	stop := context.AfterFunc(ctx, out.Abort)
	defer stop()
	defer out.Close()
	_ = b.SetDeadline(time.Time{})
	b.limit.N = 1<<63 - 1
	p.h.count.conns.Add(1)
	for _, name := range hopByHop(r.Header) {
		r.Header.Del(name)
	}
	r.Close = true // one request for each connection: then its end is the end of the answer
	sent := make(chan struct{})
	go func() { // beside the answer, which may come before the body has gone
		defer close(sent)
		if r.Write(out) != nil {
			out.Abort()
		}
	}()
	_, err := io.Copy(struct{ io.Writer }{b}, struct{ io.Reader }{out})
	if err != nil {
		abort(b)
	} else {
		_ = b.CloseWrite()
	}
	out.Abort() // whoever has answered wants no more of the body
	b.Close()
	<-sent
}

// hopByHop lists the headers that are meant for us (RFC 9110 section 7.6.1).
func hopByHop(h http.Header) []string {
	names := []string{"Connection", "Proxy-Connection", "Proxy-Authorization", "Keep-Alive", "Te", "Upgrade"}
	for _, v := range h.Values("Connection") {
		for name := range strings.SplitSeq(v, ",") {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// basicAuth is http.Request.BasicAuth of the header that proxies look at.
func basicAuth(r *http.Request) (user, password string, ok bool) {
	with := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	return with.BasicAuth()
}

func httpCode(err error) int {
	switch {
	case errors.Is(err, errNoName):
		return http.StatusNotFound
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// refuseHTTP answers a program with why it gets nothing.
func refuseHTTP(w io.Writer, code int, why string) {
	auth := ""
	if code == http.StatusProxyAuthRequired {
		auth = "Proxy-Authenticate: Basic realm=\"weave\"\r\n"
	}
	why = "weave proxy: " + why + "\n"
	_, _ = fmt.Fprintf(w, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		code, http.StatusText(code), auth, len(why), why)
}
