package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestBytes has odd messages pass unchanged, one after the other on one connection.
func TestBytes(t *testing.T) {
	client, accept := pair(t, settings(t))
	var engine *net.UnixConn
	for _, m := range []struct{ request, response string }{
		{"GET /_ping HTTP/1.1\r\nHost: \r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length:  2\r\nX-Odd:a\r\n\r\nOK"},
		{"GET /version HTTP/1.1\r\nhOsT: [::1%25eth0]:80\r\nX: 1\r\n folded\r\nX: 2\r\n\r\n", "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n1\r\nd\r\n0\r\nX-Trailer: z\r\n\r\n"},
		{"HEAD /containers/a/archive?path=/x HTTP/1.1\r\nHost: d\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 17\r\nX-Docker-Container-Path-Stat: eyJ\r\n\r\n"},
		{"POST /images/load HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n00a\r\n0123456789\r\n1\r\nx\r\n0\r\nT: 1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"PUT /x HTTP/1.1\nHost: d\nContent-Length: 3\n\nabc", "HTTP/1.1 204 No Content\n\n"},
		{"DELETE /v1.41/containers/x?force=1 HTTP/1.1\r\nHost: d\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"},
		{"GET http://docker/v1.41/info HTTP/1.1\r\nHost: d\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"},
		{"POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 400 Bad Request\r\nContent-Length: 1\r\n\r\nx"},
		{"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"},
		{"GET /v1.41/containers/aa11/json HTTP/1.1\r\nHost: d\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{ }"},
	} {
		say(t, client, m.request)
		if engine == nil {
			engine = accept()
		}
		expect(t, engine, m.request)
		say(t, engine, m.response)
		expect(t, client, m.response)
	}
	// a host that the engine would refuse
	say(t, client, "GET /_ping HTTP/1.1\r\nA: b\r\nHost: /var/run/docker.sock\r\nC: d\r\n\r\n")
	expect(t, engine, "GET /_ping HTTP/1.1\r\nHost: docker\r\nA: b\r\nC: d\r\n\r\n")
	say(t, engine, "HTTP/1.1 204 No Content\r\n\r\n")
	expect(t, client, "HTTP/1.1 204 No Content\r\n\r\n")
	// pipelined
	say(t, client, "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
	expect(t, engine, "GET /a HTTP/1.1\r\n\r\n")
	say(t, engine, "HTTP/1.1 204 No Content\r\n\r\n")
	expect(t, engine, "GET /b HTTP/1.1\r\n\r\n")
	say(t, engine, "HTTP/1.1 204 No Content\r\n\r\n")
	expect(t, client, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
	// the client goes
	_ = client.CloseWrite()
	expectEnd(t, engine)
	expectEnd(t, client)
}

// TestFlush has every chunk arrive before the next is written, both ways.
func TestFlush(t *testing.T) {
	client, accept := pair(t, settings(t))
	say(t, client, "POST /build HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
	engine := accept()
	expect(t, engine, "POST /build HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
	say(t, engine, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n") // before the request ends
	expect(t, client, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	for _, chunk := range []string{"1\r\nx\r\n", "1", "0\r\n0123456789abcdef", "\r", "\n", "0\r\n\r\n"} {
		say(t, client, chunk)
		expect(t, engine, chunk)
		say(t, engine, chunk)
		expect(t, client, chunk)
	}
	say(t, client, "GET /x HTTP/1.1\r\n\r\n")
	expect(t, engine, "GET /x HTTP/1.1\r\n\r\n")
}

func TestContinue(t *testing.T) {
	client, accept := pair(t, settings(t))
	head := "POST /images/load HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
	say(t, client, head)
	engine := accept()
	expect(t, engine, head)
	say(t, engine, "HTTP/1.1 100 Continue\r\n\r\n")
	expect(t, client, "HTTP/1.1 100 Continue\r\n\r\n")
	say(t, client, "abc")
	expect(t, engine, "abc")
	say(t, engine, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	expect(t, client, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	// where the body is changed, we ask for it
	say(t, client, "POST /containers/create HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
	expect(t, client, "HTTP/1.1 100 Continue\r\n\r\n")
	say(t, client, "{}")
	expect(t, engine, "POST /containers/create HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
	say(t, engine, "HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	expect(t, client, "HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	expectEnd(t, client)
}

// TestTunnel has streams that Docker makes of connections pass both ways, and either way end first.
func TestTunnel(t *testing.T) {
	for name, m := range map[string]struct{ request, response string }{
		"old attach": {"POST /v1.18/containers/x/attach?stream=1 HTTP/1.1\r\nContent-Type: text/plain\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"},
		"upgrade":    {"POST /v1.41/containers/x/attach?stream=1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"},
		"exec":       {"POST /v1.41/exec/x/start HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"},
		"websocket":  {"GET /containers/x/attach/ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"},
		"session":    {"POST /session HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"},
	} {
		for _, clientFirst := range []bool{true, false} {
			t.Run(fmt.Sprint(name, clientFirst), func(t *testing.T) {
				client, accept := pair(t, settings(t))
				say(t, client, m.request)
				engine := accept()
				expect(t, engine, m.request)
				say(t, engine, m.response+"early")
				expect(t, client, m.response+"early")
				for range 3 {
					say(t, client, "\x00\x01POST /x\r\n\r\n")
					expect(t, engine, "\x00\x01POST /x\r\n\r\n")
					say(t, engine, "\x02out")
					expect(t, client, "\x02out")
				}
				one, two := client, engine
				if !clientFirst {
					one, two = engine, client
				}
				say(t, one, "last")
				_ = one.CloseWrite()
				expect(t, two, "last")
				expectEnd(t, two)
				say(t, two, "after")
				_ = two.CloseWrite()
				expect(t, one, "after")
				expectEnd(t, one)
			})
		}
	}
}

// TestLarge has bodies pass that nobody may hold in memory, and at the same time both ways.
func TestLarge(t *testing.T) {
	const size = 64 << 20
	socket := run(t, settings(t), engineOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})))
	for _, chunks := range []bool{true, false} {
		body := io.LimitReader(endless{}, size)
		req, _ := http.NewRequest(http.MethodPost, "http://docker/images/load", body)
		if !chunks {
			req.ContentLength = size
		}
		resp, err := clientOf(socket).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if n != size || err != nil {
			t.Errorf("chunks %v: %d bytes came back, %v", chunks, n, err)
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func clientOf(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
}

// TestEarly has a response reach a client that has not sent its whole request, and a client that goes reach the engine.
func TestEarly(t *testing.T) {
	client, accept := pair(t, settings(t))
	head := "POST /images/load HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n"
	say(t, client, head)
	engine := accept()
	expect(t, engine, head)
	refusal := "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfull"
	say(t, engine, refusal)
	engine.Close()
	go func() { _, _ = io.Copy(client, io.LimitReader(endless{}, 1<<20)) }()
	expect(t, client, refusal)
}

func TestClientGoes(t *testing.T) {
	client, accept := pair(t, settings(t))
	say(t, client, "GET /events HTTP/1.1\r\n\r\n")
	engine := accept()
	expect(t, engine, "GET /events HTTP/1.1\r\n\r\n")
	say(t, engine, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	expect(t, client, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	client.Close()
	expectEnd(t, engine)
}

// TestEngineReturns has a client's connection outlive the engine's.
func TestEngineReturns(t *testing.T) {
	client, accept := pair(t, settings(t))
	for range 3 {
		say(t, client, "GET /x HTTP/1.1\r\n\r\n")
		engine := accept()
		expect(t, engine, "GET /x HTTP/1.1\r\n\r\n")
		say(t, engine, "HTTP/1.1 204 No Content\r\n\r\n")
		expect(t, client, "HTTP/1.1 204 No Content\r\n\r\n")
		engine.Close()
	}
}

func TestEngineAbsent(t *testing.T) {
	l := listen(t)
	socket := run(t, settings(t), l)
	l.Close()
	for target, want := range map[string]string{
		"http://docker/v1.41/info": `{"message":"Could not connect to target: dial unix`, "http://docker/v1.18/info": `Could not connect to target: dial unix`,
	} {
		resp, err := clientOf(socket).Get(target)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 500 || !strings.HasPrefix(string(body), want) {
			t.Errorf("%s: %d %s", target, resp.StatusCode, body)
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, request := range []string{
		"hello\r\n\r\n", "\r\n", "GET / HTTP/2.0\r\n\r\n", "POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"POST /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "POST /x HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
		"GET /x HTTP/1.1\r\nX: " + strings.Repeat("x", maxHead) + "\r\n\r\n",
		"POST /containers/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		client, _ := pair(t, settings(t))
		go func() { _, _ = io.WriteString(client, request) }()
		expect(t, client, "HTTP/1.1 400 Bad Request\r\n")
	}
	client, _ := pair(t, settings(t))
	say(t, client, fmt.Sprintf("POST /containers/create HTTP/1.1\r\nContent-Length: %d\r\n\r\n", maxRequest+1))
	go func() { _, _ = io.Copy(client, io.LimitReader(endless{}, maxRequest+1)) }()
	expect(t, client, "HTTP/1.1 413 Request Entity Too Large\r\n")
}

// FuzzChunked has the scanner agree with net/http on where bodies in chunks end, and never take a byte more.
func FuzzChunked(f *testing.F) {
	for _, seed := range []string{"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\nrest", "a;x=1\r\n0123456789\r\n0\r\nT: 1\r\n\r\n", "3\nabc\n0\n\n", "ffffffffffffffff\r\n", "\r\n", "3\r\nabcd\r\n"} {
		f.Add(seed, 3)
	}
	f.Fuzz(func(t *testing.T, text string, step int) {
		step = 1 + max(step, -step-1)%64
		c, used := &chunked{}, 0
		for used < len(text) {
			b := text[used:min(len(text), used+step)]
			n, done, err := c.scan([]byte(b))
			if n < 0 || n > len(b) || err == nil && !done && n != len(b) {
				t.Fatalf("%d of %d bytes, %v, %v", n, len(b), done, err)
			}
			used += n
			if err != nil {
				return
			}
			if !done {
				continue
			}
			req, err := http.ReadRequest(bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + text[:used])))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(req.Body); err == io.ErrUnexpectedEOF {
				t.Fatalf("%q is cut short", text[:used])
			}
			return
		}
	})
}
