package session

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/flynn/noise"
)

// newTestKeypairs are the two halves of a session without a handshake.
func newTestKeypairs(t testing.TB, suite Suite) (initiator, responder *Keypair) {
	t.Helper()
	limits := Limits{}.withDefaults()
	make1 := func(id keypairID, send, receive byte) *Keypair {
		keys := &Keys{clock: NewClock(epoch)}
		k, err := newKeypair(id, keys, &limits, &[32]byte{send}, &[32]byte{receive})
		if err != nil {
			t.Fatal(err)
		}
		keys.install(k)
		return k
	}
	initiator = make1(keypairID{local: 11, remote: 22, suite: suite, initiator: true}, 1, 2)
	responder = make1(keypairID{local: 22, remote: 11, suite: suite}, 2, 1)
	return initiator, responder
}

// zeroed reports whether the struct behind a cipher is all zero bytes.
func zeroed(a cipher.AEAD) bool {
	v := reflect.ValueOf(a)
	return !slices.ContainsFunc(unsafe.Slice((*byte)(v.UnsafePointer()), v.Elem().Type().Size()), func(b byte) bool { return b != 0 })
}

func eachSuite(t *testing.T, f func(*testing.T, Suite)) {
	for _, s := range []Suite{SuiteWireGuard, SuiteAESGCM} {
		t.Run(s.String(), func(t *testing.T) { f(t, s) })
	}
}

func TestSealInPlaceEqualsOutOfPlace(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		for _, n := range []int{0, 1, 15, 16, 17, 1400, 65000} {
			plain := make([]byte, n)
			rand.Read(plain)
			k1, other := newTestKeypairs(t, suite)
			k2, _ := newTestKeypairs(t, suite)
			out, err := k1.Seal([]byte("before"), plain)
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 6, 6+n+Overhead)
			copy(buf, "before")
			copy(buf[:cap(buf)][6+HeaderLen:], plain)
			in, err := k2.Seal(buf, buf[:cap(buf)][6+HeaderLen:6+HeaderLen+n])
			if err != nil || !bytes.Equal(in, out) || &in[0] != &buf[0] {
				t.Fatalf("length %d: in place differs, %v", n, err)
			}
			if len(out) != 6+n+Overhead || string(out[:6]) != "before" {
				t.Fatalf("length %d: message of %d bytes", n, len(out))
			}
			msg := out[6:]
			got, err := other.Open(msg)
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("length %d: %v", n, err)
			}
			if n > 0 && &got[0] != &msg[HeaderLen] {
				t.Fatal("not opened in place")
			}
		}
	})
}

// TestDataMessageLayout holds the bytes against the ciphers used plainly.
func TestDataMessageLayout(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		k, _ := newTestKeypairs(t, suite)
		k.counter.Store(0x0102030405060708)
		got, err := k.Seal(nil, []byte("hello"))
		if err != nil && suite == SuiteWireGuard {
			t.Fatal(err)
		}
		if suite == SuiteAESGCM { // beyond its limit
			if err != ErrExhausted {
				t.Fatal(err)
			}
			k.counter.Store(0x01020304)
			if got, err = k.Seal(nil, []byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		n := k.counter.Load() - 1
		want := []byte{4, 0, 0, 0, 22, 0, 0, 0}
		want = binary.LittleEndian.AppendUint64(want, n)
		nonce := binary.LittleEndian.AppendUint64(make([]byte, 4), n)
		aead, err := suite.aead(&[32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		want = aead.Seal(want, nonce, []byte("hello"), nil)
		if !bytes.Equal(got, want) {
			t.Errorf("got  %x\nwant %x", got, want)
		}
	})
}

func TestOpenRefusals(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		a, b := newTestKeypairs(t, suite)
		seal := func() []byte {
			m, err := a.Seal(nil, []byte("payload"))
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		good := seal()
		change := func(at int) []byte {
			m := bytes.Clone(good)
			m[at] ^= 1
			return m
		}
		for _, c := range []struct {
			msg  []byte
			want error
		}{
			{nil, ErrMalformed},
			{good[:31], ErrMalformed},
			{change(0), ErrMalformed},
			{change(1), ErrMalformed}, // reserved
			{change(4), ErrMalformed}, // another receiver
			{change(8), ErrForged},    // counter
			{change(16), ErrForged},
			{change(len(good) - 1), ErrForged},
		} {
			if _, err := b.Open(c.msg); err != c.want {
				t.Errorf("%x: %v, want %v", c.msg, err, c.want)
			}
		}
		if b.Confirmed() {
			t.Error("a refused message confirmed the keypair")
		}
		if _, err := b.Open(bytes.Clone(good)); err != nil {
			t.Error(err)
		}
		if _, err := b.Open(bytes.Clone(good)); err != ErrReplayed {
			t.Errorf("twice: %v", err)
		}
	})
}

// TestReplayWindow: out of order within the window is fine, behind it or twice is not; a forged counter far ahead
// does not move it.
func TestReplayWindow(t *testing.T) {
	const window = 8128 // of golang.zx2c4.com/wireguard/replay
	a, b := newTestKeypairs(t, SuiteAESGCM)
	sealAt := func(n uint64) []byte {
		a.counter.Store(n)
		m, err := a.Seal(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	forged := sealAt(1 << 30)
	forged[20]++
	for _, c := range []struct {
		msg  []byte
		want error
	}{
		{sealAt(5), nil},
		{forged, ErrForged},
		{sealAt(3), nil},
		{sealAt(4), nil},
		{sealAt(3), ErrReplayed},
		{sealAt(0), nil},
		{sealAt(window + 5), nil},
		{sealAt(5), ErrReplayed},
		{sealAt(6), nil},
		{sealAt(4), ErrReplayed},
		{sealAt(1), ErrReplayed}, // never seen, but behind
		{sealAt(1 << 31), nil},
		{sealAt(window + 6), ErrReplayed},
	} {
		n := binary.LittleEndian.Uint64(c.msg[8:])
		if _, err := b.Open(c.msg); err != c.want {
			t.Errorf("counter %d: %v, want %v", n, err, c.want)
		}
	}
	limits := Limits{RejectAfterMessages: 1 << 20}.withDefaults()
	b.limits = &limits
	if _, err := b.Open(sealAt(1 << 20)); err != ErrReplayed {
		t.Errorf("counter beyond the limit: %v", err)
	}
}

func TestZeroWipesWhenLastUserLeaves(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		k, _ := newTestKeypairs(t, suite)
		if zeroed(k.send) || zeroed(k.receive) {
			t.Fatal("zeroed from the start")
		}
		if !k.sealing.enter() {
			t.Fatal("cannot enter")
		}
		k.Zero()
		k.Zero()
		if zeroed(k.send) || !zeroed(k.receive) {
			t.Fatal("the key in use must stay, the other must go")
		}
		if _, err := k.Seal(nil, nil); err != ErrExpired {
			t.Errorf("seal after Zero: %v", err)
		}
		if zeroed(k.send) {
			t.Fatal("the key in use was wiped")
		}
		k.leaveSealing()
		if !zeroed(k.send) {
			t.Fatal("the last user left and the key is still there")
		}
		msg := make([]byte, Overhead)
		msg[0], msg[4] = typeData, 11
		if _, err := k.Open(msg); err != ErrExpired {
			t.Errorf("open after Zero: %v", err)
		}
	})
}

// TestConcurrentUse seals and opens from many goroutines while the keypair is zeroed: no counter twice, nothing sealed
// under a zero key. Run it with -race.
func TestConcurrentUse(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		a, b := newTestKeypairs(t, suite)
		_, zeroKey := newTestKeypairs(t, suite)
		zeroKey.receive, _ = suite.aead(&[32]byte{})
		var all sync.Map
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range 2000 {
					msg, err := a.Seal(nil, []byte("x"))
					if err == ErrExpired {
						return
					}
					if _, twice := all.LoadOrStore(binary.LittleEndian.Uint64(msg[8:]), true); twice {
						t.Error("a counter was used twice")
					}
					if _, err := zeroKey.Open(bytes.Clone(msg)); err != ErrForged {
						t.Errorf("sealed under a zero key: %v", err)
					}
					if _, err := b.Open(msg); err != nil && err != ErrExpired {
						t.Errorf("open: %v", err)
					}
					if i == 1000 {
						a.Zero()
						b.Zero()
					}
				}
			})
		}
		wg.Wait()
		if !zeroed(a.send) || !zeroed(a.receive) || !zeroed(b.send) || !zeroed(b.receive) {
			t.Error("keys are still in memory")
		}
		if !b.Confirmed() || b.keys.Current() != b {
			t.Error("the first message did not promote the responder's keypair")
		}
	})
}

// TestHandshakeIsWiped looks at the memory the noise library kept its secrets in.
func TestHandshakeIsWiped(t *testing.T) {
	a, b := newEnds(t, SuiteWireGuard, Config{})
	a.step(Want{Key: b.m.PublicKey()})
	shake := a.m.peers[b.m.PublicKey()].attempt.shake
	state := reflect.ValueOf(shake.state).Elem()
	secrets := map[string][]byte{"ephemeral": shake.state.LocalEphemeral().Private}
	for name, v := range map[string]reflect.Value{
		"psk": state.FieldByName("psk"), "ck": state.FieldByName("ss").FieldByName("ck"), "h": state.FieldByName("ss").FieldByName("h"),
	} {
		secrets[name] = unsafe.Slice((*byte)(v.UnsafePointer()), v.Len())
	}
	for i, s := range shake.residue.secrets {
		secrets[fmt.Sprint("shared secret ", i)] = s
	}
	for i, c := range shake.residue.ciphers {
		v := reflect.ValueOf(c)
		secrets[fmt.Sprint("cipher ", i)] = unsafe.Slice((*byte)(v.UnsafePointer()), v.Elem().Type().Size())
	}
	secrets["state"] = unsafe.Slice((*byte)(unsafe.Pointer(shake.state)), unsafe.Sizeof(noise.HandshakeState{}))
	if len(secrets) < 9 {
		t.Fatalf("looking at %d secrets only", len(secrets))
	}
	for name, s := range secrets {
		if len(s) < 32 || bytes.Equal(s, make([]byte, len(s))) {
			t.Fatalf("%s is empty before the end", name)
		}
	}
	b.step(Datagram{Bytes: a.takeOne()})
	a.step(Datagram{Bytes: b.takeOne()})
	for name, s := range secrets {
		if !bytes.Equal(s, make([]byte, len(s))) {
			t.Errorf("%s is still in memory: %x", name, s)
		}
	}
	if private := privateKey(1); !bytes.Equal(a.m.noise.static.Private, private[:]) {
		t.Error("the static key was wiped with the handshake")
	}
	a.deliver(b, "and the transport keys work")
}

func TestSealAndOpenDoNotAllocate(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		a, b := newTestKeypairs(t, suite)
		plain, buf := make([]byte, 1400), make([]byte, 0, 1400+Overhead)
		if n := testing.AllocsPerRun(200, func() {
			msg, err := a.Seal(buf, plain)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = b.Open(msg); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations for one message sealed and opened", n)
		}
	})
}
