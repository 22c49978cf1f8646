package session

import (
	"crypto/subtle"
	"io"
	"net/netip"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
)

// Labels of the two keys derived from a public key (whitepaper, section 5.4.4 and 5.4.7).
const (
	labelMAC1   = "mac1----"
	labelCookie = "cookie--"
)

// macKeys are derived from the public key of whoever receives a message: proof that its sender knows whom it talks to.
type macKeys struct {
	mac1   [32]byte
	cookie [32]byte
}

func newMACKeys(receiver PublicKey) macKeys {
	return macKeys{mac1: hash(labelMAC1, receiver[:]), cookie: hash(labelCookie, receiver[:])}
}

func hash(label string, data []byte) [32]byte {
	return blake2s.Sum256(append([]byte(label), data...))
}

// mac is BLAKE2s keyed, with 16 bytes of output.
func mac(key, data []byte) (out [macLen]byte) {
	h, err := blake2s.New128(key)
	if err != nil { // only if the key is longer than 32 bytes
		panic("session: " + err.Error())
	}
	h.Write(data)
	h.Sum(out[:0])
	return out
}

// The two macs are the last 32 bytes of messages 1 and 2; mac2 also covers mac1.
func mac1Part(msg []byte) (covered, value []byte) {
	at := len(msg) - 2*macLen
	return msg[:at], msg[at : at+macLen]
}

func mac2Part(msg []byte) (covered, value []byte) {
	at := len(msg) - macLen
	return msg[:at], msg[at:]
}

func (k *macKeys) validMAC1(msg []byte) bool {
	covered, value := mac1Part(msg)
	want := mac(k.mac1[:], covered)
	return subtle.ConstantTimeCompare(want[:], value) == 1
}

// macSender adds the macs to messages for one peer, and remembers the cookie the peer gave us.
type macSender struct {
	keys     macKeys
	last     [macLen]byte // mac1 of the message a cookie reply would answer
	sent     bool
	cookie   [macLen]byte
	cookieAt stamp
}

// seal appends both macs to a message; mac2 stays zero while we hold no fresh cookie.
func (s *macSender) seal(msg []byte, now stamp, cookieLife int64) []byte {
	s.last, s.sent = mac(s.keys.mac1[:], msg), true
	msg = append(msg, s.last[:]...)
	var mac2 [macLen]byte
	if s.cookieAt != 0 && now-s.cookieAt < cookieLife {
		mac2 = mac(s.cookie[:], msg)
	}
	return append(msg, mac2[:]...)
}

// accept takes the cookie out of a reply; false when it is not an answer to our last message.
func (s *macSender) accept(r cookieReply, now stamp) bool {
	if !s.sent {
		return false
	}
	aead, err := chacha20poly1305.NewX(s.keys.cookie[:])
	if err != nil {
		return false
	}
	cookie, err := aead.Open(nil, r.nonce, r.cookie, s.last[:])
	if err != nil || len(cookie) != macLen {
		return false
	}
	copy(s.cookie[:], cookie)
	s.cookieAt, s.sent = now, false
	return true
}

// cookieJar gives and checks cookies: a cookie is the mac of a source address under a secret that changes every two
// minutes, so nothing is remembered per source.
type cookieJar struct {
	secret [32]byte
	setAt  stamp
}

func (j *cookieJar) valid(msg []byte, from netip.AddrPort, now stamp, life int64) bool {
	if j.setAt == 0 || now-j.setAt >= life {
		return false
	}
	cookie := j.cookie(from)
	covered, value := mac2Part(msg)
	want := mac(cookie[:], covered)
	return subtle.ConstantTimeCompare(want[:], value) == 1
}

// reply makes message 3 for a message 1 or 2 whose sender calls itself by index sender.
func (j *cookieJar) reply(keys *macKeys, rand io.Reader, msg []byte, sender uint32, from netip.AddrPort, now stamp, life int64) ([]byte, error) {
	if j.setAt == 0 || now-j.setAt >= life {
		if _, err := io.ReadFull(rand, j.secret[:]); err != nil {
			return nil, err
		}
		j.setAt = now
	}
	out := newCookieReply(sender)
	nonce := out[8:32]
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(keys.cookie[:])
	if err != nil {
		return nil, err
	}
	cookie := j.cookie(from)
	_, mac1 := mac1Part(msg)
	return aead.Seal(out, nonce, cookie[:], mac1), nil
}

func (j *cookieJar) cookie(from netip.AddrPort) [macLen]byte {
	address, port := from.Addr().As16(), from.Port()
	return mac(j.secret[:], append(address[:], byte(port), byte(port>>8)))
}
