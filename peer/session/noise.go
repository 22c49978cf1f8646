package session

import (
	"errors"
	"io"
	"reflect"
	"unsafe"

	"github.com/flynn/noise"
	"golang.org/x/crypto/curve25519"
	"golang.zx2c4.com/wireguard/tai64n"
)

// pskPlacement puts the pre-shared key at the end of message 2: the "psk2" in Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s.
const pskPlacement = 2

var errHandshake = errors.New("handshake message is not authentic")

// transport are the keys a finished handshake yields.
type transport struct {
	send, receive [32]byte
}

// handshake is one side of one Noise_IKpsk2 exchange, from message 1 to the keys. It is used once and wiped.
type handshake struct {
	state   *noise.HandshakeState
	suite   Suite
	residue *residue
}

// noiseSide is what both sides of a handshake need.
type noiseSide struct {
	static noise.DHKey
	rand   io.Reader
}

func newNoiseSide(private [32]byte, rand io.Reader) (noiseSide, error) {
	public, err := curve25519.X25519(private[:], curve25519.Basepoint)
	if err != nil {
		return noiseSide{}, err
	}
	return noiseSide{static: noise.DHKey{Private: append([]byte(nil), private[:]...), Public: public}, rand: rand}, nil
}

// begin prepares either side. An initiator knows the peer and the pre-shared key, a responder will learn them.
func (n noiseSide) begin(suite Suite, prologue []byte, peer *PublicKey, psk *[32]byte) (*handshake, error) {
	left := &residue{}
	cfg := noise.Config{
		CipherSuite: noise.NewCipherSuite(left, left, noise.HashBLAKE2s),
		Random:      n.rand, Pattern: noise.HandshakeIK, Initiator: peer != nil,
		Prologue: prologue, PresharedKeyPlacement: pskPlacement, StaticKeypair: n.static,
	}
	if peer != nil {
		cfg.PeerStatic = append([]byte(nil), peer[:]...)
		cfg.PresharedKey = psk[:]
	}
	state, err := noise.NewHandshakeState(cfg)
	if err != nil {
		return nil, err
	}
	return &handshake{state: state, suite: suite, residue: left}, nil
}

// initiate appends the Noise part of message 1 to a message.
func (h *handshake) initiate(msg []byte, at tai64n.Timestamp) ([]byte, error) {
	out, _, _, err := h.state.WriteMessage(msg, at[:])
	return out, err
}

// accept reads the Noise part of message 1: who sends it, and its timestamp.
func (h *handshake) accept(msg []byte) (peer PublicKey, at tai64n.Timestamp, err error) {
	payload, _, _, err := h.state.ReadMessage(nil, msg)
	if err != nil || len(payload) != len(at) {
		return peer, at, errHandshake
	}
	copy(peer[:], h.state.PeerStatic())
	copy(at[:], payload)
	return peer, at, nil
}

// respond appends the Noise part of message 2 to a message, and yields the keys.
func (h *handshake) respond(msg []byte, psk *[32]byte) ([]byte, *transport, error) {
	if err := h.state.SetPresharedKey(psk[:]); err != nil {
		return nil, nil, err
	}
	out, fromInitiator, fromResponder, err := h.state.WriteMessage(msg, nil)
	if err != nil {
		return nil, nil, err
	}
	return out, takeKeys(fromResponder, fromInitiator), nil
}

// finish reads the Noise part of message 2. After an error the handshake still waits for the true one: whoever sees
// our index on the wire can send a response, and must not be able to break anything with it.
func (h *handshake) finish(msg []byte) (*transport, error) {
	// The library does not roll back when a Diffie-Hellman fails, which a low-order ephemeral key brings about
	// (RFC 7748, section 6.1). Such keys fail with every private key, so try it before the state is touched.
	kept := *h.residue
	if _, err := h.residue.DH(h.state.LocalEphemeral().Private, msg[:32]); err != nil {
		h.residue.wipeBack(kept)
		return nil, errHandshake
	}
	_, fromInitiator, fromResponder, err := h.state.ReadMessage(nil, msg)
	if err != nil || fromInitiator == nil {
		h.residue.wipeBack(kept)
		return nil, errHandshake
	}
	return takeKeys(fromInitiator, fromResponder), nil
}

func takeKeys(send, receive *noise.CipherState) *transport {
	t := &transport{send: send.UnsafeKey(), receive: receive.UnsafeKey()}
	*send, *receive = noise.CipherState{}, noise.CipherState{} // their ciphers are in the residue
	return t
}

// wipe zeroes what the handshake knows. The library has no call for it and keeps its chaining key and the pre-shared
// key in unexported fields; the static key is the Machine's and stays. Copies that hash functions left on the heap are
// beyond reach.
func (h *handshake) wipe() {
	if h == nil || h.state == nil {
		return
	}
	h.residue.wipe()
	state := reflect.ValueOf(h.state).Elem()
	wipeBytes(state.FieldByName("psk"))
	symmetric := state.FieldByName("ss")
	for _, name := range [...]string{"ck", "h", "prevCK", "prevH"} {
		wipeBytes(symmetric.FieldByName(name))
	}
	*h.state = noise.HandshakeState{}
	h.state = nil
}

func wipeBytes(b reflect.Value) {
	if b.Len() > 0 {
		clear(unsafe.Slice((*byte)(b.UnsafePointer()), b.Len()))
	}
}
