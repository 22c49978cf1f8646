package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// After the handshake the stream is frames, each one Noise transport message:
//
//	 0        2                              2+length
//	+--------+------------------------- - - -+
//	| length | ciphertext and tag            |
//	+--------+------------------------- - - -+
//
//	         plaintext:
//	          0       1
//	         +-------+---------------- - - -+
//	         | flags | part of a message    |
//	         +-------+---------------- - - -+
//
// length is big endian. flags bit 0: more parts follow. A message is the parts
// joined, a protobuf Control. Nonces count from 0 in each direction (the
// listener's 0 was spent on accept); after every rekeyEvery messages both ends
// rekey that direction (Noise, section 11.3), so the order is the only state.
const (
	tagLen     = 16
	flagMore   = 1 << 0
	maxPart    = noise.MaxMsgLen - tagLen - 1
	rekeyEvery = 1 << 16

	// MaxMessage is the longest protobuf message, in bytes, in either direction.
	MaxMessage = 10 << 20
)

var (
	errTooLong  = fmt.Errorf("message longer than %d bytes", MaxMessage)
	errFrame    = errors.New("malformed frame")
	errNotAuth  = errors.New("frame did not authenticate")
	errNoNonces = errors.New("connection has used up its nonces")
)

// half is one direction of a connection.
type half struct {
	cs    *noise.CipherState
	rekey uint64 // messages between rekeys
	buf   []byte // one frame's plaintext or ciphertext; borrowed
	spare *spare // where buf is from; nil: made anew
}

// turn rekeys when it is time. Both ends count alike.
func (h *half) turn() {
	if h.cs.Nonce()%h.rekey == 0 {
		h.cs.Rekey()
	}
}

// give returns the buffer; what open returned last is not valid any more.
func (h *half) give() {
	h.spare.give(h.buf)
	h.buf = nil
}

// framesLen is how many bytes of frames a message of n bytes makes.
func framesLen(n int) int { return n + max(1, (n+maxPart-1)/maxPart)*(2+1+tagLen) }

// seal appends msg to out as frames.
func (h *half) seal(out, msg []byte) ([]byte, error) {
	if len(msg) > MaxMessage {
		return out, errTooLong
	}
	for {
		part := msg[:min(len(msg), maxPart)]
		msg = msg[len(part):]
		flags := byte(0)
		if len(msg) > 0 {
			flags |= flagMore
		}
		if cap(h.buf) <= len(part) {
			h.give()
			h.buf = h.spare.take(1 + len(part))
		}
		h.buf = append(append(h.buf[:0], flags), part...)
		out = binary.BigEndian.AppendUint16(out, uint16(len(h.buf)+tagLen))
		var err error
		if out, err = h.cs.Encrypt(out, nil, h.buf); err != nil {
			return out, errNoNonces
		}
		h.turn()
		if len(msg) == 0 {
			return out, nil
		}
	}
}

// open reads one frame and returns its part, valid until the next call.
func (h *half) open(r io.Reader) (part []byte, more bool, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, false, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n < tagLen+1 {
		return nil, false, errFrame
	}
	if cap(h.buf) < n {
		h.give()
		h.buf = h.spare.take(n)
	}
	b := h.buf[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, false, err
	}
	plain, err := h.cs.Decrypt(b[:0], nil, b)
	if err != nil {
		return nil, false, errNotAuth
	}
	h.turn()
	more = plain[0]&flagMore != 0
	if more && len(plain) == 1 {
		return nil, false, errFrame // would let a message go on for ever
	}
	return plain[1:], more, nil
}
