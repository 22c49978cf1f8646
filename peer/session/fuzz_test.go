package session

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// goldenMessages are seeds.
func goldenMessages(f *testing.F) [][]byte {
	f.Helper()
	raw, err := os.ReadFile("testdata/messages.golden")
	if err != nil {
		f.Fatal(err)
	}
	var out [][]byte
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		msg, err := hex.DecodeString(fields[len(fields)-1])
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, msg)
	}
	return out
}

// FuzzParse holds the parsers against the layout functions: what is parsed and laid out again is the same.
func FuzzParse(f *testing.F) {
	for _, m := range goldenMessages(f) {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseInitiation(b); err == nil {
			again := append(newInitiation(m.suite, m.sender), m.noise...)
			if again = append(again, b[len(b)-2*macLen:]...); !bytes.Equal(again, b) {
				t.Errorf("%x became %x", b, again)
			}
		}
		if m, err := parseResponse(b); err == nil {
			again := append(newResponse(m.suite, m.sender, m.receiver), m.noise...)
			if again = append(again, b[len(b)-2*macLen:]...); !bytes.Equal(again, b) {
				t.Errorf("%x became %x", b, again)
			}
		}
		if m, err := parseCookie(b); err == nil {
			again := newCookieReply(m.receiver)
			copy(again[8:], m.nonce)
			if again = append(again, m.cookie...); !bytes.Equal(again, b) {
				t.Errorf("%x became %x", b, again)
			}
		}
	})
}

// FuzzDatagram gives a machine with a handshake under way and a keypair in use any datagram, twice, with a valid mac1
// if wished and with our index where one belongs: no panic, invariants hold, state stays bounded, and afterwards the
// handshake under way still succeeds.
func FuzzDatagram(f *testing.F) {
	for _, m := range goldenMessages(f) {
		f.Add(m, true, true, false)
		f.Add(m, true, false, true)
	}
	f.Fuzz(func(t *testing.T, msg []byte, fixMAC, fixIndex, load bool) {
		source := rand.NewChaCha8([32]byte{1})
		a, b := newEnds(t, SuiteWireGuard, Config{Rand: source})
		connect(a, b)
		advance(6*time.Second, a, b)
		a.step(Want{Key: b.m.PublicKey()})
		initiation := a.takeOne()
		msg = bytes.Clone(msg)
		if at := map[byte]int{typeResponse: 8, typeCookie: 4}[append(msg, 0)[0]]; at > 0 && fixIndex && len(msg) >= at+4 {
			binary.LittleEndian.PutUint32(msg[at:], a.m.peers[b.m.PublicKey()].attempt.index)
		}
		if fixMAC && len(msg) >= 2*macLen {
			msg = reMAC(msg, a)
		}
		before := bytes.Clone(msg)
		for range 2 {
			e := a.step(Datagram{From: addrB, Bytes: msg, UnderLoad: load})
			if len(e.Dropped)+len(e.Install) == 0 {
				t.Errorf("neither dropped nor answered: %x", msg)
			}
		}
		if !bytes.Equal(before, msg) {
			t.Error("the datagram was changed")
		}
		a.take()
		b.step(Datagram{From: addrA, Bytes: initiation})
		a.step(Datagram{From: addrB, Bytes: b.takeOne()})
		a.deliver(b, "still works")
		b.deliver(a, "both ways")
	})
}

// FuzzOpen: only what was sealed is opened.
func FuzzOpen(f *testing.F) {
	k, _ := newTestKeypairs(f, SuiteWireGuard)
	for _, m := range goldenMessages(f) {
		f.Add(m, uint8(0))
	}
	for _, n := range []int{0, 1, 100} {
		msg, err := k.Seal(nil, make([]byte, n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(msg, uint8(0))
		f.Add(msg, uint8(1))
	}
	f.Fuzz(func(t *testing.T, msg []byte, suite uint8) {
		a, b := newTestKeypairs(t, Suite(suite%2))
		msg = bytes.Clone(msg)
		before := bytes.Clone(msg)
		plain, err := b.Open(msg)
		if err != nil {
			if b.Confirmed() {
				t.Error("a refused message confirmed the keypair")
			}
			return
		}
		a.counter.Store(binary.LittleEndian.Uint64(before[8:]))
		if again, err := a.Seal(nil, plain); err != nil || !bytes.Equal(again, before) {
			t.Errorf("opened %x, which is not what is sealed: %x, %v", before, again, err)
		}
	})
}
