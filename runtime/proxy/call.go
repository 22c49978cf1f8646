package proxy

import (
	"net/url"
	"regexp"
	"strings"
)

// kind says what a call is to us.
type kind uint8

const (
	other       kind = iota // passes as it is
	create                  // of a container: it is to start with the wait shim
	start                   // or restart: the client waits until it is attached
	inspect                 // of a container: shows its address on our network, if that is asked for
	exec                    // made in a container: it waits as well
	execInspect             // holds an inspection, in old versions of the API
)

// call is a request as the engine understands it.
type call struct {
	kind   kind
	prefix string // "/v1.41", or "" where the client names no version
	id     string // what the client calls the container, or the exec
	query  url.Values
}

var (
	version = regexp.MustCompile(`^/v[0-9][0-9.]*`)
	// path leaves slashes in ids: once there were names such as a/b, of links.
	path = regexp.MustCompile(`^/(containers|exec)/(.+)$`)
)

// callOf reads a request's first line.
func callOf(method, target string) call {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return call{}
	}
	escaped := u.EscapedPath()
	c := call{prefix: version.FindString(escaped), query: u.Query()}
	m := path.FindStringSubmatch(escaped[len(c.prefix):])
	if m == nil {
		return c
	}
	rest := m[2]
	if m[1] == "containers" && rest == "create" && method == "POST" {
		c.kind = create
		return c
	}
	cut := strings.LastIndexByte(rest, '/')
	if cut <= 0 {
		return c
	}
	if c.id, err = url.PathUnescape(rest[:cut]); err != nil {
		return c
	}
	switch method + " " + m[1] + " " + rest[cut+1:] {
	case "POST containers start", "POST containers restart":
		c.kind = start
	case "POST containers exec":
		c.kind = exec
	case "GET containers json":
		c.kind = inspect
	case "GET exec json":
		c.kind = execInspect
	}
	return c
}

// before tells whether the client speaks an older version than major.minor; no version is the newest.
func (c call) before(major, minor int) bool {
	if c.prefix == "" {
		return false
	}
	var v [2]int
	for i, part := range strings.SplitN(strings.TrimPrefix(c.prefix, "/v"), ".", 3) {
		if i == len(v) {
			break
		}
		for _, ch := range part {
			v[i] = min(v[i]*10+int(ch-'0'), 1<<20)
		}
	}
	return v[0] < major || v[0] == major && v[1] < minor
}
