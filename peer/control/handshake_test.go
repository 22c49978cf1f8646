package control

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"weave/peer/wire"
)

func TestWrongPassword(t *testing.T) {
	a := start(t, Config{Private: key("a"), PSKs: [][32]byte{key("one")}, Password: true})
	b := start(t, Config{Private: key("b"), PSKs: [][32]byte{key("two")}, Password: true})
	a.Dial(b.addr.String())
	if e := await[DialFailed](a); !errors.Is(e.Err, ErrPassword) || e.Target != b.addr.String() {
		t.Errorf("dialler: %v", e.Err)
	}
	if e := await[Refused](b); !errors.Is(e.Err, ErrPassword) || !e.Remote.Addr().IsLoopback() {
		t.Errorf("listener: %v", e.Err)
	}
	if n := b.Stats().Refused; n != 1 {
		t.Errorf("%d refused", n)
	}
}

func TestOneSidedPassword(t *testing.T) {
	const (
		has    = "password specified, but peer requested an unencrypted connection"
		hasNot = "no password specificed, but peer requested an encrypted connection"
	)
	a := start(t, Config{Private: key("a"), PSKs: [][32]byte{key("one")}, Password: true})
	b := start(t, Config{Private: key("b")})
	a.Dial(b.addr.String())
	if e := await[DialFailed](a); e.Err.Error() != has {
		t.Errorf("dialler with: %v", e.Err)
	}
	if e := await[Refused](b); e.Err.Error() != hasNot {
		t.Errorf("listener without: %v", e.Err)
	}
	b.Dial(a.addr.String())
	if e := await[DialFailed](b); e.Err.Error() != hasNot {
		t.Errorf("dialler without: %v", e.Err)
	}
	if e := await[Refused](a); e.Err.Error() != has {
		t.Errorf("listener with: %v", e.Err)
	}
}

func TestVersions(t *testing.T) {
	a := start(t, Config{Private: key("a"), MinVersion: 1, MaxVersion: 2})
	b := start(t, Config{Private: key("b"), MinVersion: 3, MaxVersion: 5})
	c := start(t, Config{Private: key("c"), MinVersion: 2, MaxVersion: 4})
	a.Dial(b.addr.String())
	if e := await[DialFailed](a); e.Err.Error() != "no common protocol version: this peer speaks 1..2, the other 3..5" {
		t.Errorf("dialler: %v", e.Err)
	}
	if e := await[Refused](b); e.Err.Error() != "no common protocol version: this peer speaks 3..5, the other 1..2" {
		t.Errorf("listener: %v", e.Err)
	}
	if ca, cc := join(a, c); ca.Version() != 2 || cc.Version() != 2 {
		t.Errorf("versions %d, %d", ca.Version(), cc.Version())
	}
	if cc, cb := join(c, b); cc.Version() != 4 || cb.Version() != 4 {
		t.Errorf("versions %d, %d", cc.Version(), cb.Version())
	}
}

// Who alters a preface on the way gets neither end to connect: not even a byte
// that means nothing, nor a version that both could speak.
func TestTamperedPreface(t *testing.T) {
	for _, place := range []int{9, 15} {
		a := start(t, Config{Private: key("a"), MaxVersion: 3, PSKs: [][32]byte{key("psk")}, Password: true})
		b := start(t, Config{Private: key("b"), MaxVersion: 3, PSKs: [][32]byte{key("psk")}, Password: true})
		middle := serveTCP(t, func(conn net.Conn) {
			on, err := net.Dial("tcp", b.addr.String())
			if err != nil {
				return
			}
			defer func() { _ = on.Close() }()
			var first [prefaceLen]byte
			_, _ = io.ReadFull(conn, first[:])
			first[place] ^= 1
			_, _ = on.Write(first[:])
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = io.Copy(conn, on)
				_ = conn.Close()
			}()
			_, _ = io.Copy(on, conn)
			_ = on.Close()
			<-done
		})
		a.Dial(middle)
		if e := await[DialFailed](a); !errors.Is(e.Err, errTampered) {
			t.Errorf("byte %d: dialler: %v", place, e.Err)
		}
		if e := await[Refused](b); !errors.Is(e.Err, errTampered) {
			t.Errorf("byte %d: listener: %v", place, e.Err)
		}
	}
}

// Garbage costs only the connection it comes on.
func TestGarbageOnTheListener(t *testing.T) {
	b := start(t, Config{Private: key("b")})
	a := start(t, Config{Private: key("a")})
	ca, _ := join(a, b)
	garbage := []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "x", "weave\x01\x02", "weave",
		strings.Repeat("\x00", 1000), magic + "\x00\x00\x00\x00\x00\x00\x00\x00", magic + "\x05\x01\x00\x00\x00\x00\x00\x00",
	}
	for _, g := range garbage {
		conn := tcpDial(t, b)
		_, _ = conn.Write([]byte(g))
		_ = conn.(*net.TCPConn).CloseWrite()
		if said := ended(t, conn); len(said) > prefaceLen {
			t.Errorf("%q: answered %q", g, said)
		}
	}
	ca.Send(hello(1))
	if m := await[Message](b); m.Message.GetHello().GetTiebreak() != 1 {
		t.Errorf("got %v", m.Message)
	}
	if st := b.Stats(); st.Garbage+st.Refused != uint64(len(garbage)) || st.Garbage < 6 {
		t.Errorf("stats: %+v", st)
	}
}

// Garbage inside the handshake ends it as well.
func TestGarbageInTheHandshake(t *testing.T) {
	b := start(t, Config{Private: key("b")})
	for _, g := range []string{
		"\x00\x00", "\xff\xff", "\x00\x01\x09", "\x00\x02\x01\x00", "\x00\x02\x03\x02", "\x00\x10\x01short",
		"\x00\x31\x01" + strings.Repeat("\x00", 48),
	} {
		conn := tcpDial(t, b)
		_, _ = conn.Write(append(preface{min: 1, max: 1}.append(nil), g...))
		_ = conn.(*net.TCPConn).CloseWrite()
		ended(t, conn)
		await[Refused](b)
	}
	for _, frame := range []string{"\x00\x00", "\x00\x10", "\x00\x11" + strings.Repeat("z", 17), "\xff"} {
		p := rawDial(t, b, "a")
		await[Up](b)
		_, _ = p.Write([]byte(frame))
		_ = p.Conn.(*net.TCPConn).CloseWrite()
		if d := await[Down](b); d.Err == nil {
			t.Errorf("%q: no reason", frame)
		}
	}
}

// Ports where something else listens are told apart, with a reason.
func TestDialForeignPorts(t *testing.T) {
	a := start(t, Config{Private: key("a")})
	hasty := start(t, Config{Private: key("h"), Limits: Limits{Handshake: 100 * time.Millisecond}})
	wait := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	for _, c := range []struct {
		name, want string
		serve      func(net.Conn)
	}{
		{"ssh", `not a weave port: it said "SSH-2.0-Open`, func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.9\r\n"); wait(c) }},
		{"weave net", "the protocol of Weave Net", func(c net.Conn) { _, _ = io.WriteString(c, "weave\x01\x02"); wait(c) }},
		{"hangs up", "without a word", func(net.Conn) {}},
		{"silent", "no weave handshake within 100ms", wait},
		{"echo", "not authenticate", func(c net.Conn) { _, _ = io.Copy(c, c) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := a
			if c.name == "silent" {
				from = hasty
			}
			from.Dial(serveTCP(t, c.serve))
			e := await[DialFailed](from)
			if c.name == "hangs up" && strings.Contains(e.Err.Error(), "reset by peer") {
				return // it hung up on bytes it had not read
			}
			if !strings.Contains(e.Err.Error(), c.want) {
				t.Errorf("got %q, want %q in it", e.Err, c.want)
			}
		})
	}
}

// Who opens connections and says nothing, or little, is closed in time.
func TestSlowLoris(t *testing.T) {
	b := start(t, Config{Private: key("b"), Limits: Limits{Handshake: 100 * time.Millisecond}})
	mute, slow := tcpDial(t, b), tcpDial(t, b)
	_, _ = slow.Write(preface{min: 1, max: 1}.append(nil))
	_, _ = slow.Write([]byte{0, 49, kindMessage})
	if said := ended(t, mute); len(said) != 0 {
		t.Errorf("told a mute caller %q", said)
	}
	ended(t, slow)
}

// Too many open handshakes: the oldest make room and a real peer gets in.
func TestHalfOpenLimit(t *testing.T) {
	b := start(t, Config{Private: key("b"), Limits: Limits{HalfOpen: 3, Burst: 100}})
	first := tcpDial(t, b)
	for range 5 {
		tcpDial(t, b)
	}
	ended(t, first)
	a := start(t, Config{Private: key("a")})
	join(a, b)
	if n := b.Stats().Evicted; n < 3 {
		t.Errorf("%d evicted", n)
	}
}

// A peer that dials itself gets two connections that both name its own key; it
// is for the mesh to notice.
func TestDialOurself(t *testing.T) {
	a := start(t, Config{Private: key("a")})
	a.Dial(a.addr.String())
	one, other := await[Up](a).Conn, await[Up](a).Conn
	if own := public(t, key("a")); one.Static() != own || other.Static() != own || one.ID() == other.ID() {
		t.Fatalf("connections %d and %d", one.ID(), other.ID())
	}
	one.Close("cannot connect to ourself")
	await[Down](a)
	await[Down](a)
}

func TestPrefaceGolden(t *testing.T) {
	got := preface{min: 1, max: 2, password: true}.append(nil)
	if want := "776561766500637401020100" + "00000000"; hex.EncodeToString(got) != want {
		t.Fatalf("got %x, want %s", got, want)
	}
	if p, err := parsePreface(got); err != nil || p != (preface{1, 2, true}) {
		t.Fatalf("parsed %+v, %v", p, err)
	}
}

func FuzzPreface(f *testing.F) {
	f.Add(preface{min: 1, max: 2, password: true}.append(nil))
	f.Add([]byte("weave\x01\x02"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		head, err := readPreface(bytes.NewReader(b))
		if err != nil {
			var foreign *ForeignError
			if !errors.As(err, &foreign) || err.Error() == "" {
				t.Fatalf("unexpected error %v", err)
			}
			return
		}
		p, err := parsePreface(head)
		if err != nil {
			return
		}
		again, err := parsePreface(p.append(nil))
		if err != nil || again != p {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
		_, _ = agree(preface{min: 1, max: 3}, p)
	})
}

// stream is a connection whose other end has said everything already.
type stream struct {
	io.Reader
	io.Writer
}

// Whatever a stranger says, the listening end neither fails otherwise than by
// an error nor says more than its half of a handshake.
func FuzzListeningHandshake(f *testing.F) {
	head := preface{min: 1, max: 1}.append(nil)
	f.Add(append(bytes.Clone(head), append([]byte{0, 49, kindMessage}, make([]byte, 48)...)...))
	f.Add(append(bytes.Clone(head), 0, 2, kindReject, rejectPassword))
	tr, err := New(Config{Private: key("b")})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var said bytes.Buffer
		h := handshake{psks: [][32]byte{{}}, rw: stream{bytes.NewReader(b), &said}, key: tr.key, ours: preface{min: 1, max: 1}}
		if _, err := h.listen(); err == nil {
			t.Fatal("shook hands with noise")
		}
		if said.Len() > prefaceLen+200 {
			t.Fatalf("said %d bytes", said.Len())
		}
	})
}

// The same for the dialling end.
func FuzzDiallingHandshake(f *testing.F) {
	head := preface{min: 1, max: 1}.append(nil)
	f.Add(append(bytes.Clone(head), append([]byte{0, 97, kindMessage}, make([]byte, 96)...)...))
	f.Add(append(bytes.Clone(head), 0, 2, kindReject, rejectPassword))
	f.Add(append(bytes.Clone(head), 0, 17, kindAccept))
	tr, err := New(Config{Private: key("a")})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h := handshake{psks: [][32]byte{{}}, rw: stream{bytes.NewReader(b), io.Discard}, key: tr.key, ours: preface{min: 1, max: 1}}
		if _, err := h.dial(); err == nil || err.Error() == "" {
			t.Fatalf("shook hands with noise: %v", err)
		}
	})
}

// A listener accepts whoever holds any of its passwords; a dialler tries its own
// in turn; what both retire is refused.
func TestSeveralPasswords(t *testing.T) {
	psks := func(names ...string) (out [][32]byte) {
		for _, n := range names {
			out = append(out, key(n))
		}
		return out
	}
	a := start(t, Config{Private: key("a"), PSKs: psks("old", "new"), Password: true})
	b := start(t, Config{Private: key("b"), PSKs: psks("x", "y", "new"), Password: true})
	join(a, b) // the dialler's second is the listener's third
	join(b, a)
	c := start(t, Config{Private: key("c"), PSKs: psks("z"), Password: true})
	c.Dial(b.addr.String())
	if e := await[DialFailed](c); !errors.Is(e.Err, ErrPassword) {
		t.Errorf("with none in common: %v", e.Err)
	}
	await[Refused](b)
	up, _ := join(a, b)
	a.SetPSKs(psks("other"))
	up.Send(&wire.Control{Kind: &wire.Control_Want{Want: &wire.Want{Names: [][]byte{{1}}}}})
	await[Message](b)
	b.Dial(a.addr.String())
	if e := await[DialFailed](b); !errors.Is(e.Err, ErrPassword) {
		t.Errorf("with a retired password: %v", e.Err)
	}
}
