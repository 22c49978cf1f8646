package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxHead is how many bytes a first line and its header fields may have: what Docker's server takes (net/http).
const maxHead = 1 << 20

var (
	errHeadTooLong = errors.New("header fields are too long")
	errMalformed   = errors.New("malformed HTTP message")
)

// head is the first line and the header fields of a message, as they came.
type head struct {
	first  string   // without its end
	fields []string // without their ends; a continuation line is part of its field
	raw    []byte   // all of it with the empty line; nil once it was changed
}

// readHead reads to the empty line. An error of the connection comes as it is, io.EOF only before the first byte.
func readHead(r *bufio.Reader) (head, error) {
	h := head{}
	start := 0 // of the current line
	for {
		part, err := r.ReadSlice('\n')
		h.raw = append(h.raw, part...)
		switch {
		case len(h.raw) > maxHead:
			return h, errHeadTooLong
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(h.raw) > 0:
			return h, io.ErrUnexpectedEOF
		case err != nil:
			return h, err
		}
		line := string(bytes.TrimRight(h.raw[start:], "\r\n"))
		start = len(h.raw)
		switch {
		case line == "" && h.first == "":
			return h, errMalformed
		case line == "":
			return h, nil
		case h.first == "":
			h.first = line
		case (line[0] == ' ' || line[0] == '\t') && len(h.fields) > 0:
			h.fields[len(h.fields)-1] += "\r\n" + line
		default:
			h.fields = append(h.fields, line)
		}
	}
}

// bytes is the head as it is sent.
func (h head) bytes() []byte {
	if h.raw != nil {
		return h.raw
	}
	var b bytes.Buffer
	b.WriteString(h.first + "\r\n")
	for _, f := range h.fields {
		b.WriteString(f + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// values are what the fields of a name say.
func (h head) values(name string) []string {
	var out []string
	for _, f := range h.fields {
		key, value, ok := strings.Cut(f, ":")
		if ok && strings.EqualFold(strings.TrimSpace(key), name) {
			out = append(out, strings.TrimSpace(value))
		}
	}
	return out
}

// has tells whether a field that is a list of words has one of them.
func (h head) has(name, word string) bool {
	for _, v := range h.values(name) {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), word) {
				return true
			}
		}
	}
	return false
}

// without drops the fields of some names.
func (h head) without(names ...string) head {
	out := head{first: h.first}
	for _, f := range h.fields {
		key, _, _ := strings.Cut(f, ":")
		drop := false
		for _, n := range names {
			drop = drop || strings.EqualFold(strings.TrimSpace(key), n)
		}
		if !drop {
			out.fields = append(out.fields, f)
		}
	}
	return out
}

// withBody is the head of the same message with a body of n bytes, whose sender does not wait to be asked for it.
func (h head) withBody(n int) head {
	out := h.without("Content-Length", "Transfer-Encoding", "Trailer", "Expect")
	out.fields = append(out.fields, "Content-Length: "+strconv.Itoa(n))
	return out
}

// hosted makes up a host where the client named one that is none, as old versions of docker did with the path of the socket:
// the engine's server refuses such a request (net/http, "malformed Host header").
func (h head) hosted() head {
	for _, host := range h.values("Host") {
		if strings.IndexFunc(host, func(r rune) bool { return !strings.ContainsRune(hostRunes, r) }) >= 0 {
			out := h.without("Host")
			out.fields = append([]string{"Host: docker"}, out.fields...)
			return out
		}
	}
	return h
}

// hostRunes are those of RFC 3986's host and port.
const hostRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!$%&()*+,-.:;=[]'_~"

// closes tells that no other message follows on the connection (RFC 9112, section 9.3).
func (h head) closes(version string) bool {
	return h.has("Connection", "close") || version == "HTTP/1.0" && !h.has("Connection", "keep-alive")
}

// request is the head of a request.
type request struct {
	head
	method, target, version string
}

func readRequest(r *bufio.Reader) (request, error) {
	h, err := readHead(r)
	if err != nil {
		return request{head: h}, err
	}
	parts := strings.Split(h.first, " ")
	if len(parts) != 3 || parts[0] == "" || !strings.HasPrefix(parts[2], "HTTP/1.") {
		return request{head: h}, fmt.Errorf("%w: no HTTP/1 request: %.100q", errMalformed, h.first)
	}
	return request{head: h, method: parts[0], target: parts[1], version: parts[2]}, nil
}

// body is where the request's body ends; nil if it has none.
func (r request) body() (frame, error) {
	f, err := frameOf(r.head)
	if f == nil || err != nil {
		return nil, err
	}
	return f, nil
}

// response is the head of a response.
type response struct {
	head
	status  int
	version string
}

func readResponse(r *bufio.Reader) (response, error) {
	h, err := readHead(r)
	if err != nil {
		return response{}, err
	}
	version, rest, _ := strings.Cut(h.first, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || status < 100 || status > 999 || !strings.HasPrefix(version, "HTTP/1.") {
		return response{}, fmt.Errorf("%w: no HTTP/1 response: %.100q", errMalformed, h.first)
	}
	return response{head: h, status: status, version: version}, nil
}

// interim responses come before the one that counts (RFC 9110, section 15.2).
func (r response) interim() bool { return r.status < 200 && r.status != statusSwitching }

const statusSwitching = 101

// body is where the body ends; endless if only the connection's end ends it, as for the raw streams that Docker makes of
// attach and exec, and for other protocols (RFC 9112, section 6.3).
func (r response) body(method string) (f frame, endless bool, err error) {
	switch {
	case r.status == statusSwitching:
		return nil, true, nil
	case method == "HEAD", r.status == 204, r.status == 304:
		return nil, false, nil
	}
	f, err = frameOf(r.head)
	if err != nil {
		return nil, false, err
	}
	if f == nil && len(r.values("Content-Length")) == 0 {
		return nil, true, nil
	}
	return f, false, nil
}
