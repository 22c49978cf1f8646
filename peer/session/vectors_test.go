package session

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flynn/noise"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tai64n"
)

var update = flag.Bool("update", false, "write the golden files anew")

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestNoiseVectors runs our side of the library (cipher and Diffie-Hellman functions, prologue, pre-shared key, taking
// the keys) through two vectors of Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s that github.com/flynn/noise publishes
// (vectors.txt). They also cover the key derivation, HMAC over BLAKE2s.
func TestNoiseVectors(t *testing.T) {
	for _, v := range []struct{ prologue, payload1, message1, payload2, message2 string }{
		{
			"", "746573745f6d73675f30",
			`358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254d06f15f78ad0914d9715147bb5a5004b27345a838bab
			4aa8bc5f144afc2cf4cca972105ba526e8c92b759e028200e7666a3d77b86f9aa87dcfe685e771e38b97d3c5996368c663051641`,
			"746573745f6d73675f31",
			"64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d48466168e6913e78d7a2b04b2f3d5529e73e953bafe6c7ce2b1005367",
		},
		{
			"6e6f74736563726574", "",
			`358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254d06f15f78ad0914d9715147bb5a5004b27345a838bab
			4aa8bc5f144afc2cf4ccb88f9ea1ebd99e94b76e50af7eee0e59549f4f47de925ee65c9dee48f8990082`,
			"",
			"64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d484665db536cf97f15c6ece2431fc1c0057b4",
		},
	} {
		side := func(private, ephemeral string) noiseSide {
			n, err := newNoiseSide([32]byte(unhex(t, private)), bytes.NewReader(unhex(t, ephemeral)))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		i := side("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f")
		r := side("0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20",
			"4142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f60")
		psk, peer := [32]byte([]byte("!verysecretverysecretverysecret!")), PublicKey(r.static.Public)
		runVector(t, i, r, unhex(t, v.prologue), peer, psk, []vectorMessage{
			{unhex(t, v.payload1), unhex(t, v.message1)},
			{unhex(t, v.payload2), unhex(t, v.message2)},
		})
	}
}

type vectorMessage struct{ payload, message []byte }

func runVector(t *testing.T, i, r noiseSide, prologue []byte, peer PublicKey, psk [32]byte, messages []vectorMessage) {
	t.Helper()
	initiator, err := i.begin(SuiteWireGuard, prologue, &peer, &psk)
	if err != nil {
		t.Fatal(err)
	}
	responder, err := r.begin(SuiteWireGuard, prologue, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, _, _, err := initiator.state.WriteMessage(nil, messages[0].payload)
	if err != nil || !bytes.Equal(got, messages[0].message) {
		t.Fatalf("message 1 is %x, %v", got, err)
	}
	if _, _, _, err = responder.state.ReadMessage(nil, got); err != nil {
		t.Fatal(err)
	}
	if err = responder.state.SetPresharedKey(psk[:]); err != nil {
		t.Fatal(err)
	}
	got, c1, c2, err := responder.state.WriteMessage(nil, messages[1].payload)
	if err != nil || !bytes.Equal(got, messages[1].message) {
		t.Fatalf("message 2 is %x, %v", got, err)
	}
	keys := takeKeys(c2, c1)
	for _, m := range []struct {
		key       [32]byte
		plaintext string
		want      string
	}{
		{keys.receive, "yellowsubmarine", "6013ea114b4c4884afb82bf029f72f924bd8a32c487a15a1cef4855ba234be"},
		{keys.send, "submarineyellow", "8a2e7119635e41a35b7e64e0adac5483b66b1a9827895124ea07d58440b654"},
	} {
		got := noise.CipherChaChaPoly.Cipher(m.key).Encrypt(nil, 0, nil, []byte(m.plaintext))
		if hex.EncodeToString(got) != m.want {
			t.Errorf("transport message %x, want %s", got, m.want)
		}
	}
}

// TestWireGuardPrologue checks the hash every WireGuard handshake starts from, known from many implementations:
// HASH(HASH(construction) || identifier).
func TestWireGuardPrologue(t *testing.T) {
	n, err := newNoiseSide(privateKey(1), nil)
	if err != nil {
		t.Fatal(err)
	}
	start := unhex(t, "2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3")
	want := blake2s.Sum256(append(start, n.static.Public...))
	seen := map[string]bool{}
	for _, s := range []Suite{SuiteWireGuard, SuiteAESGCM} {
		h, err := n.begin(s, s.prologue(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := h.state.ChannelBinding()
		if s == SuiteWireGuard && !bytes.Equal(got, want[:]) {
			t.Errorf("starts from %x, want %x", got, want)
		}
		if seen[string(got)] {
			t.Error("two suites start from the same hash")
		}
		seen[string(got)] = true
	}
}

// TestXChaCha20Poly1305 is draft-irtf-cfrg-xchacha-03, appendix A.3.1: the cipher of cookies.
func TestXChaCha20Poly1305(t *testing.T) {
	var key [32]byte
	for i := range key {
		key[i] = 0x80 + byte(i)
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		t.Fatal(err)
	}
	got := aead.Seal(nil, unhex(t, "404142434445464748494a4b4c4d4e4f5051525354555657"),
		[]byte("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."),
		unhex(t, "50515253c0c1c2c3c4c5c6c7"))
	want := `bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54
		c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615
		c68b13b52e c0875924c1c7987947deafd8780acf49`
	if !bytes.Equal(got, unhex(t, want)) {
		t.Errorf("got %x", got)
	}
}

// TestAESGCMVector is test case 14 of McGrew and Viega's GCM specification: key, nonce and plaintext all zero, which
// is what counter 0 under a zero key seals.
func TestAESGCMVector(t *testing.T) {
	k, _ := newTestKeypairs(t, SuiteAESGCM)
	var err error
	if k.send, err = SuiteAESGCM.aead(&[32]byte{}); err != nil {
		t.Fatal(err)
	}
	got, err := k.Seal(nil, make([]byte, 16))
	want := unhex(t, "cea7403d4d606b6e074ec5d3baf39d18 d0d1c8a799996bf0265b98b5d48ab919")
	if err != nil || !bytes.Equal(got[HeaderLen:], want) {
		t.Errorf("got %x, %v", got, err)
	}
}

// TestMAC compares keyed BLAKE2s with 16 bytes of output to Python's hashlib.
func TestMAC(t *testing.T) {
	data := make([]byte, 64)
	for i := range data {
		data[i] = byte(i)
	}
	got := mac(data[:32], data)
	if want := unhex(t, "f1efa90d2547036841ecd3627fafbc36"); !bytes.Equal(got[:], want) {
		t.Errorf("got %x", got)
	}
}

// TestCookiesAgainstDevice holds both halves of our cookies against wireguard-go's.
func TestCookiesAgainstDevice(t *testing.T) {
	key := PublicKey{1, 2, 3}
	var theirs device.CookieChecker
	theirs.Init(device.NoisePublicKey(key))
	ours := macSender{keys: newMACKeys(key)}
	message := func() []byte {
		return ours.seal(bytes.Repeat([]byte{5}, initiationLen-2*macLen), 1, int64(time.Minute))
	}
	first := message()
	if !theirs.CheckMAC1(first) || theirs.CheckMAC2(first, []byte("source")) {
		t.Error("mac1 must be right, mac2 must not")
	}
	reply, err := theirs.CreateReply(first, 77, []byte("source"))
	if err != nil {
		t.Fatal(err)
	}
	if !ours.accept(cookieReply{77, reply.Nonce[:], reply.Cookie[:]}, 1) {
		t.Fatal("we refuse the device's cookie")
	}
	if !theirs.CheckMAC2(message(), []byte("source")) {
		t.Error("the device refuses our mac2")
	}

	var generator device.CookieGenerator
	generator.Init(device.NoisePublicKey(key))
	keys, jar := newMACKeys(key), cookieJar{}
	msg := make([]byte, initiationLen)
	generator.AddMacs(msg)
	if !keys.validMAC1(msg) || jar.valid(msg, addrA, 1, int64(time.Minute)) {
		t.Error("mac1 must be right, mac2 must not")
	}
	raw, err := jar.reply(&keys, bytes.NewReader(make([]byte, 100)), msg, 88, addrA, 1, int64(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseCookie(raw)
	if err != nil || c.receiver != 88 {
		t.Fatalf("our own reply: %+v, %v", c, err)
	}
	if !generator.ConsumeReply(&device.MessageCookieReply{Nonce: [24]byte(c.nonce), Cookie: [32]byte(c.cookie)}) {
		t.Fatal("the device refuses our cookie")
	}
	generator.AddMacs(msg)
	if !jar.valid(msg, addrA, 1, int64(time.Minute)) || jar.valid(msg, addrB, 1, int64(time.Minute)) {
		t.Error("the device's mac2 must be right for its address only")
	}
}

func TestTimestamp(t *testing.T) {
	if got := timestampAt(time.Unix(0, 0)); hex.EncodeToString(got[:]) != "400000000000000a00000000" {
		t.Errorf("1970 is %x", got)
	}
	before := timestampAt(time.Now())
	now := tai64n.Now()
	after := timestampAt(time.Now())
	if before.After(now) || now.After(after) {
		t.Errorf("%x, %x, %x", before, now, after)
	}
	p := &peer{}
	last := p.timestamp(epoch)
	for _, at := range []time.Time{epoch, epoch.Add(1), epoch.Add(-time.Hour), epoch.Add(time.Second), epoch.Add(time.Second - 1)} {
		next := p.timestamp(at)
		if !next.After(last) {
			t.Errorf("the timestamp after %x is %x", last, next)
		}
		last = next
	}
}

// counting is a source of "randomness" for golden bytes.
type counting byte

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(*c)
		*c++
	}
	return len(p), nil
}

// TestGoldenMessages holds one message of each type and suite against testdata, so that the wire cannot change
// unnoticed.
func TestGoldenMessages(t *testing.T) {
	var out strings.Builder
	for _, suite := range []Suite{SuiteWireGuard, SuiteAESGCM} {
		source := counting(0)
		a, b := newEnds(t, suite, Config{Rand: &source})
		print := func(name string, msg []byte) { fmt.Fprintf(&out, "%v %s %x\n", suite, name, msg) }
		a.step(Want{Key: b.m.PublicKey()})
		msg := a.takeOne()
		print("initiation", msg)
		b.step(Datagram{From: a.addr, Bytes: msg, UnderLoad: true})
		print("cookie", b.takeOne())
		b.step(Datagram{From: a.addr, Bytes: msg})
		msg = b.takeOne()
		print("response", msg)
		a.step(Datagram{From: b.addr, Bytes: msg})
		print("keepalive", a.sealTo(b, ""))
		print("data", a.sealTo(b, "sixteen bytes or so"))
	}
	name := filepath.Join("testdata", "messages.golden")
	if *update {
		if err := os.WriteFile(name, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
