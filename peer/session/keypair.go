package session

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// What Seal and Open answer when they refuse. They allocate nothing, so a caller can count each kind.
var (
	// ErrExpired: the keypair is older than Limits.RejectAfterTime, or was zeroed.
	ErrExpired = errors.New("session: keypair has expired")
	// ErrExhausted: the keypair has sealed Limits.RejectAfterMessages messages.
	ErrExhausted = errors.New("session: keypair has sealed as many messages as it may")
	// ErrUnconfirmed: the initiator has not proven yet that it holds this keypair, so a responder must not send.
	ErrUnconfirmed = errors.New("session: keypair is not confirmed by its initiator yet")
	// ErrMalformed: too short, another type of message, or another receiver index.
	ErrMalformed = errors.New("session: not a data message for this keypair")
	// ErrForged: the authentication tag is wrong.
	ErrForged = errors.New("session: data message is not authentic")
	// ErrReplayed: authentic, but seen before, or too old to tell.
	ErrReplayed = errors.New("session: data message was seen before")
)

// Keypair is one agreed pair of transport keys: one seals, the other opens. Everything is safe for concurrent use by
// many goroutines; Seal and Open allocate nothing.
type Keypair struct {
	id      keypairID
	limits  *Limits
	keys    *Keys
	created stamp

	confirmed atomic.Bool
	exporter  [32]byte // goes with the key that seals

	_       [64]byte // what senders write, what receivers write and what all read are on cache lines of their own
	sealing guard
	counter atomic.Uint64 // of the next message sealed
	send    cipher.AEAD

	_       [64]byte
	opening guard
	receive cipher.AEAD
	mu      sync.Mutex // guards seen, nothing else
	seen    window
}

// keypairID is what never changes about a keypair.
type keypairID struct {
	peer      PublicKey
	local     uint32
	remote    uint32
	suite     Suite
	initiator bool
}

// newKeypair takes the two transport keys and wipes them.
func newKeypair(id keypairID, keys *Keys, limits *Limits, send, receive *[32]byte) (*Keypair, error) {
	defer clear(send[:])
	defer clear(receive[:])
	k := &Keypair{id: id, keys: keys, limits: limits, created: keys.clock.stamp()}
	var err error
	if k.exporter, err = newExporter(id.initiator, send, receive); err != nil {
		return nil, err
	}
	if k.send, err = id.suite.aead(send); err != nil {
		return nil, err
	}
	if k.receive, err = id.suite.aead(receive); err != nil {
		return nil, err
	}
	k.confirmed.Store(id.initiator)
	return k, nil
}

// LocalIndex is the receiver index of data messages for us.
func (k *Keypair) LocalIndex() uint32 { return k.id.local }

// RemoteIndex is the receiver index of data messages for the peer.
func (k *Keypair) RemoteIndex() uint32 { return k.id.remote }

// Suite is how messages are sealed.
func (k *Keypair) Suite() Suite { return k.id.suite }

// Initiator reports whether we began the handshake this keypair came from.
func (k *Keypair) Initiator() bool { return k.id.initiator }

// Peer is who holds the other half.
func (k *Keypair) Peer() PublicKey { return k.id.peer }

// Confirmed reports whether both ends are known to hold the keypair: at once for the initiator, for the responder
// when the first data message was opened.
func (k *Keypair) Confirmed() bool { return k.confirmed.Load() }

// usable reports whether Seal would seal.
func (k *Keypair) usable() bool {
	return k.keys.clock.stamp()-k.created < int64(k.limits.RejectAfterTime) &&
		k.counter.Load() < k.limits.reject(k.id.suite)
}

// Seal appends a whole data message (header, ciphertext, tag: Overhead bytes more than the plaintext) to dst and
// returns the longer slice, as append does. An empty plaintext is a keepalive. The plaintext either shares no memory
// with dst's free space or lies exactly where its ciphertext goes, dst[len(dst)+HeaderLen:]. On an error the header's
// place behind dst may have been written. Nothing is padded; WireGuard's receivers do not ask for it.
//
// Errors: ErrExpired, ErrExhausted, ErrUnconfirmed.
func (k *Keypair) Seal(dst, plaintext []byte) ([]byte, error) {
	r, err := k.Row(1)
	if err != nil {
		return dst, err
	}
	out := r.Seal(dst, plaintext)
	r.End()
	return out, nil
}

// Open is OpenTo in place: the plaintext lies inside msg.
func (k *Keypair) Open(msg []byte) ([]byte, error) {
	if len(msg) < Overhead {
		return nil, ErrMalformed
	}
	return k.OpenTo(msg[HeaderLen:HeaderLen], msg)
}

// OpenTo authenticates and decrypts a data message and appends the plaintext to dst, whose free space either shares no
// memory with msg or begins where the ciphertext does, msg[HeaderLen:]. Only then does it look whether the message was seen
// before, so that forgeries cannot move the window. The first message opened confirms a responder's keypair and makes it
// the peer's sending one.
//
// After an error the place of the plaintext may have been written, but not after ErrMalformed and ErrExpired.
// Errors: ErrMalformed, ErrExpired, ErrForged, ErrReplayed.
func (k *Keypair) OpenTo(dst, msg []byte) ([]byte, error) {
	if len(msg) < Overhead || binary.LittleEndian.Uint32(msg) != typeData ||
		binary.LittleEndian.Uint32(msg[4:]) != k.id.local {
		return nil, ErrMalformed
	}
	if !k.opening.enter() {
		k.leaveOpening()
		return nil, ErrExpired
	}
	plaintext, err := k.open(dst, msg)
	k.leaveOpening()
	return plaintext, err
}

func (k *Keypair) open(dst, msg []byte) ([]byte, error) {
	now := k.keys.clock.stamp()
	if now-k.created >= int64(k.limits.RejectAfterTime) {
		return nil, ErrExpired
	}
	counter := binary.LittleEndian.Uint64(msg[8:])
	binary.LittleEndian.PutUint32(msg[4:], 0) // the nonce, in place as in seal
	plaintext, err := k.receive.Open(dst, msg[4:HeaderLen], msg[HeaderLen:], nil)
	binary.LittleEndian.PutUint32(msg[4:], k.id.local)
	if err != nil {
		return nil, ErrForged
	}
	k.mu.Lock()
	fresh := k.seen.fresh(counter, k.limits.reject(k.id.suite))
	k.mu.Unlock()
	if !fresh {
		return nil, ErrReplayed
	}
	if !k.confirmed.Load() {
		k.keys.promote(k)
	}
	k.keys.received(now, len(plaintext) > len(dst))
	return plaintext, nil
}

// Zero ends the keypair: Seal and Open refuse from now on, and each key is wiped as soon as no goroutine is inside.
// May be called more than once.
func (k *Keypair) Zero() {
	if k.sealing.close() {
		k.wipeSealing()
	}
	if k.opening.close() {
		wipeObject(k.receive)
	}
}

// reserve takes the numbers of n messages, or says why none may be sealed.
func (k *Keypair) reserve(n uint64, now stamp) (first uint64, err error) {
	limit := k.limits.reject(k.id.suite)
	if now-k.created >= int64(k.limits.RejectAfterTime) {
		return 0, ErrExpired
	}
	if !k.confirmed.Load() {
		return 0, ErrUnconfirmed
	}
	if k.counter.Load() >= limit { // looked at first, so that refused calls never wrap the counter around
		return 0, ErrExhausted
	}
	end := k.counter.Add(n)
	if end > limit {
		return 0, ErrExhausted
	}
	return end - n, nil
}

// seal is Row.Seal for a message that has a number.
func (k *Keypair) seal(dst, plaintext []byte, number uint64) []byte {
	at := len(dst)
	out := slices.Grow(dst, Overhead+len(plaintext))[:at+HeaderLen]
	header := out[at:]
	// The nonce is made inside the header, where the receiver index is still zero: a nonce on the stack would be
	// moved to the heap on its way through the AEAD interface.
	binary.LittleEndian.PutUint32(header, typeData)
	binary.LittleEndian.PutUint32(header[4:], 0)
	binary.LittleEndian.PutUint64(header[8:], number)
	out = k.send.Seal(out, header[4:], plaintext, nil)
	binary.LittleEndian.PutUint32(header[4:], k.id.remote)
	return out
}

func (k *Keypair) leaveSealing() {
	if k.sealing.leave() {
		k.wipeSealing()
	}
}

func (k *Keypair) wipeSealing() {
	wipeObject(k.send)
	clear(k.exporter[:])
}

func (k *Keypair) leaveOpening() {
	if k.opening.leave() {
		wipeObject(k.receive)
	}
}
