package control

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// After the prefaces come handshake packets, Noise XXpsk3 (noiseprotocol.org,
// revision 34) with 25519, ChaChaPoly and BLAKE2s:
//
//	 0        2      3
//	+--------+------+---------------- - -
//	| length | kind | payload
//	+--------+------+---------------- - -
//
// length counts kind and payload, big endian.
//
//	dialler                        listener
//	  | preface ------------------->  |
//	  | <------------------- preface  |
//	  | message: e ---------------->  |
//	  | <------- message: e, ee, s, es|
//	  | message: s, se, psk ------->  |
//	  | <-------------------- accept  |   or reject, in clear, and the end
//
// accept carries the listener's first transport message, which is empty: the
// dialler knows by it that the listener holds the password. reject carries one
// byte, the reason; it is not authenticated and changes nothing but a text.
const (
	kindMessage = 1
	kindAccept  = 2
	kindReject  = 3

	rejectHandshake = 1 // a message did not authenticate
	rejectPassword  = 2 // the last message did not authenticate: the PSKs differ

	maxHandshake = 1024 // length of a handshake packet, bytes
	prologue     = "weave control\x00"
)

var (
	errTampered = errors.New("handshake did not authenticate: it was altered on the way, or the other end is broken")
	errPacket   = errors.New("malformed handshake packet")
)

// session is what a handshake yields.
type session struct {
	static     [32]byte
	version    uint8
	send, recv *noise.CipherState
}

// handshake is one end of one handshake, over a stream with a deadline.
type handshake struct {
	rw   io.ReadWriter
	key  noise.DHKey
	psks [][32]byte // the dialler's one, or all that the listener accepts
	ours preface
	hs   *noise.HandshakeState

	config noise.Config // of hs
	seed   [32]byte     // of our ephemeral key, all that is random in it
	first  []byte       // the dialler's first message
}

// dial runs the dialling end.
func (h *handshake) dial() (session, error) {
	mine := h.ours.append(nil)
	if _, err := h.rw.Write(mine); err != nil {
		return session{}, err
	}
	theirs, err := readPreface(h.rw)
	if err != nil {
		return session{}, err
	}
	version, err := h.begin(true, mine, theirs)
	if err != nil {
		return session{}, err
	}
	if _, _, err := h.write(); err != nil {
		return session{}, err
	}
	if _, _, err := h.read(); err != nil {
		return session{}, err
	}
	send, recv, err := h.write()
	if err != nil {
		return session{}, err
	}
	if err := h.awaitAccept(recv); err != nil {
		return session{}, err
	}
	return h.session(version, send, recv), nil
}

// listen runs the listening end. It tells the other end why it refuses, if a
// word of ours can help; the caller then closes gently.
func (h *handshake) listen() (session, error) {
	theirs, err := readPreface(h.rw)
	if err != nil {
		return session{}, err
	}
	mine := h.ours.append(nil)
	if _, err := h.rw.Write(mine); err != nil {
		return session{}, err
	}
	version, err := h.begin(false, theirs, mine)
	if err != nil {
		return session{}, err
	}
	if _, _, err := h.read(); err != nil {
		return session{}, h.reject(rejectHandshake, err)
	}
	if _, _, err := h.write(); err != nil {
		return session{}, err
	}
	recv, send, err := h.readLast()
	if errors.Is(err, errTampered) && h.ours.password {
		return session{}, h.reject(rejectPassword, ErrPassword)
	}
	if err != nil {
		return session{}, h.reject(rejectHandshake, err)
	}
	accept, err := send.Encrypt(nil, nil, nil)
	if err != nil {
		return session{}, err
	}
	if err := h.send(kindAccept, accept); err != nil {
		return session{}, err
	}
	return h.session(version, send, recv), nil
}

// begin compares the prefaces, given in the order they were sent, and starts
// the Noise handshake.
func (h *handshake) begin(dialler bool, first, second []byte) (uint8, error) {
	other := first
	if dialler {
		other = second
	}
	theirs, err := parsePreface(other)
	if err != nil {
		return 0, err
	}
	version, err := agree(h.ours, theirs)
	if err != nil {
		return 0, err
	}
	pro := append(append([]byte(prologue), first...), second...)
	_, _ = rand.Read(h.seed[:]) // never fails, crypto/rand
	h.config = noise.Config{
		CipherSuite: suite(), Pattern: noise.HandshakeXX, Initiator: dialler, Prologue: pro,
		PresharedKey: h.psks[0][:], PresharedKeyPlacement: 3, StaticKeypair: h.key, Random: bytes.NewReader(h.seed[:]),
	}
	if h.hs, err = noise.NewHandshakeState(h.config); err != nil {
		return 0, fmt.Errorf("start handshake: %w", err)
	}
	return version, nil
}

// readLast takes the dialler's last message, which is the first to depend on the
// PSK, with each PSK in turn.
func (h *handshake) readLast() (cs1, cs2 *noise.CipherState, err error) {
	payload, err := h.message()
	if err != nil {
		return nil, nil, err
	}
	for i := range h.psks {
		if i > 0 {
			h.again(h.psks[i])
		}
		if _, cs1, cs2, err = h.hs.ReadMessage(nil, payload); err == nil {
			return cs1, cs2, nil
		}
	}
	return nil, nil, errTampered
}

// again brings a new state, with another PSK, to where the last message failed.
// With the same ephemeral key it writes the same message, which is with the
// dialler already. What worked once cannot fail; if it did, reading will.
func (h *handshake) again(psk [32]byte) {
	h.config.PresharedKey, h.config.Random = psk[:], bytes.NewReader(h.seed[:])
	hs, err := noise.NewHandshakeState(h.config)
	if err != nil {
		return
	}
	_, _, _, _ = hs.ReadMessage(nil, h.first)
	_, _, _, _ = hs.WriteMessage(nil, nil)
	h.hs = hs
}

func suite() noise.CipherSuite {
	return noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2s)
}

func (h *handshake) session(version uint8, send, recv *noise.CipherState) session {
	s := session{version: version, send: send, recv: recv}
	copy(s.static[:], h.hs.PeerStatic())
	clear(h.seed[:])
	return s
}

// write sends the next Noise message.
func (h *handshake) write() (cs1, cs2 *noise.CipherState, err error) {
	msg, cs1, cs2, err := h.hs.WriteMessage(nil, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("write handshake: %w", err)
	}
	return cs1, cs2, h.send(kindMessage, msg)
}

// message receives the next Noise message.
func (h *handshake) message() ([]byte, error) {
	kind, payload, err := h.receive()
	if err == nil && kind != kindMessage {
		err = errPacket
	}
	return payload, err
}

// read takes the next Noise message.
func (h *handshake) read() (cs1, cs2 *noise.CipherState, err error) {
	payload, err := h.message()
	if err != nil {
		return nil, nil, err
	}
	if h.first == nil {
		h.first = payload
	}
	_, cs1, cs2, err = h.hs.ReadMessage(nil, payload)
	if err != nil {
		return nil, nil, errTampered
	}
	return cs1, cs2, nil
}

func (h *handshake) awaitAccept(recv *noise.CipherState) error {
	kind, payload, err := h.receive()
	if err != nil {
		return err
	}
	if kind != kindAccept {
		return errPacket
	}
	if body, err := recv.Decrypt(nil, nil, payload); err != nil || len(body) != 0 {
		return errTampered
	}
	return nil
}

// reject sends the reason, and returns err.
func (h *handshake) reject(code byte, err error) error {
	if errors.Is(err, errTampered) || errors.Is(err, ErrPassword) {
		_ = h.send(kindReject, []byte{code}) // best effort: the connection ends in any case
	}
	return err
}

func (h *handshake) send(kind byte, payload []byte) error {
	b := binary.BigEndian.AppendUint16(nil, uint16(1+len(payload)))
	b = append(b, kind)
	_, err := h.rw.Write(append(b, payload...))
	return err
}

// receive takes one packet; a reject comes back as an error.
func (h *handshake) receive() (kind byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(h.rw, head[:]); err != nil {
		return 0, nil, closedEarly(err)
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n < 1 || n > maxHandshake {
		return 0, nil, errPacket
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(h.rw, b); err != nil {
		return 0, nil, closedEarly(err)
	}
	if b[0] == kindReject {
		return 0, nil, rejected(b[1:])
	}
	return b[0], b[1:], nil
}

func rejected(reason []byte) error {
	switch {
	case len(reason) == 1 && reason[0] == rejectPassword:
		return ErrPassword
	case len(reason) == 1 && reason[0] == rejectHandshake:
		return errTampered
	}
	return fmt.Errorf("peer refused the handshake (reason %x)", reason)
}

func closedEarly(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("peer closed the connection during the handshake")
	}
	return err
}
