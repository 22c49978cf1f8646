package control

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// names is a resolver that a test can change.
type names map[string][]string

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	addrs, ok := n[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, Server: "192.0.2.53:53", IsNotFound: true}
	}
	var out []netip.Addr
	for _, a := range addrs {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

// All addresses of a name are tried, and the name is looked up each time.
func TestDialTriesAllAddresses(t *testing.T) {
	b := start(t, Config{Private: key("b")})
	dns := names{"b.example": {"::1", "127.0.0.9", "::ffff:127.0.0.1"}}
	a := start(t, Config{Private: key("a"), Resolver: dns, Port: b.addr.Port()})
	a.Dial("b.example")
	up := await[Up](a)
	if up.Conn.Remote() != b.addr || up.Conn.Dialled() != "b.example" {
		t.Fatalf("remote %v", up.Conn.Remote())
	}
	b.stop()
	await[Down](a)
	a.Dial("b.example")
	port := b.addr.Port()
	want := fmt.Sprintf("dial tcp6 :0->[::1]:%[1]d: connect: connection refused; "+
		"dial tcp4 :0->127.0.0.9:%[1]d: connect: connection refused; "+
		"dial tcp4 :0->127.0.0.1:%[1]d: connect: connection refused", port)
	if e := await[DialFailed](a); e.Err.Error() != want {
		t.Fatalf("got  %v\nwant %s", e.Err, want)
	}
}

func TestDialFailures(t *testing.T) {
	a := start(t, Config{Private: key("a"), Resolver: names{"empty.example": nil}})
	for target, want := range map[string]string{
		"nosuch.example":     `cannot resolve peer name "nosuch.example": no such host`,
		"nosuch.example:123": `cannot resolve peer name "nosuch.example": no such host`,
		"empty.example":      `cannot resolve peer name "empty.example": it has no addresses`,
		"a:b:c":              `invalid peer name "a:b:c", should be host[:port]`,
		"127.0.0.1:1":        `dial tcp4 :0->127.0.0.1:1: connect: connection refused`,
	} {
		a.Dial(target)
		if e := await[DialFailed](a); e.Err.Error() != want || e.Target != target {
			t.Errorf("%s: got %q, want %q", e.Target, e.Err, want)
		}
	}
}

func TestDialFromSource(t *testing.T) {
	b := start(t, Config{Private: key("b")})
	a := start(t, Config{Private: key("a"), Source: netip.MustParseAddr("127.0.0.7")})
	if _, cb := join(a, b); cb.Remote().Addr() != netip.MustParseAddr("127.0.0.7") {
		t.Fatalf("came from %v", cb.Remote())
	}
}

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		target, host string
		port         uint16
	}{
		{"host1", "host1", 6783},
		{"host1:99", "host1", 99},
		{"10.0.0.1", "10.0.0.1", 6783},
		{"10.0.0.1:99", "10.0.0.1", 99},
		{"fd00::1", "fd00::1", 6783},
		{"[fd00::1]", "fd00::1", 6783},
		{"[fd00::1]:99", "fd00::1", 99},
		{"fe80::1%eth0", "fe80::1%eth0", 6783},
		{"", "", 0},
		{":99", "", 0},
		{"host:", "", 0},
		{"host:0", "", 0},
		{"host:70000", "", 0},
		{"host:x", "", 0},
		{"a b", "", 0},
		{"a:b:c", "", 0},
		{"http://host", "", 0},
		{"[fd00::1", "", 0},
	} {
		host, port, err := ParseTarget(c.target, 6783)
		if host != c.host || port != c.port || (err == nil) != (c.host != "") {
			t.Errorf("%q: %q %d %v", c.target, host, port, err)
		}
	}
}

func TestLimiter(t *testing.T) {
	l := limiter{burst: 20, interval: 50 * time.Millisecond}
	now := time.Unix(1000, 0)
	for i := range 20 {
		if d := l.take(now); d != 0 {
			t.Fatalf("token %d of the burst: wait %v", i, d)
		}
	}
	for i := 1; i <= 3; i++ {
		if d := l.take(now); d != time.Duration(i)*50*time.Millisecond {
			t.Fatalf("token %d after the burst: wait %v", i, d)
		}
	}
	now = now.Add(200 * time.Millisecond)
	if d := l.take(now); d != 0 {
		t.Fatalf("after a pause: wait %v", d)
	}
	now = now.Add(time.Hour)
	for range 20 {
		if d := l.take(now); d != 0 {
			t.Fatalf("a full bucket: wait %v", d)
		}
	}
	if d := l.take(now); d == 0 {
		t.Fatal("the bucket holds more than the burst")
	}
}
