package session

import (
	"encoding/binary"
	"errors"
)

// The four messages of the WireGuard whitepaper, section 5.4; integers are little endian. Byte 1 of messages 1 and 2
// is the Suite here and zero there, so for suite 0 the two are the same.
//
//	1 handshake initiation, 148 bytes
//	 0     1       2    4        8           40                88           116     132     148
//	 +-----+-------+----+--------+-----------+-----------------+------------+-------+-------+
//	 | 1   | suite | 0  | sender | ephemeral | static + tag    | time + tag | mac1  | mac2  |
//	 +-----+-------+----+--------+-----------+-----------------+------------+-------+-------+
//
//	2 handshake response, 92 bytes
//	 0     1       2    4        8          12          44      60      76      92
//	 +-----+-------+----+--------+----------+-----------+-------+-------+-------+
//	 | 2   | suite | 0  | sender | receiver | ephemeral | tag   | mac1  | mac2  |
//	 +-----+-------+----+--------+----------+-----------+-------+-------+-------+
//
//	3 cookie reply, 64 bytes
//	 0     1            4          8       32             64
//	 +-----+------------+----------+-------+--------------+
//	 | 3   | 0          | receiver | nonce | cookie + tag |
//	 +-----+------------+----------+-------+--------------+
//
//	4 data, 32 bytes and more
//	 0     1            4          8         16
//	 +-----+------------+----------+---------+------------------+
//	 | 4   | 0          | receiver | counter | ciphertext + tag |
//	 +-----+------------+----------+---------+------------------+
const (
	typeInitiation = 1
	typeResponse   = 2
	typeCookie     = 3
	typeData       = 4

	initiationLen = 148
	responseLen   = 92
	cookieLen     = 64

	macLen = 16
)

const (
	// HeaderLen is the length of a data message before its ciphertext.
	HeaderLen = 16
	// TagLen is the length of the authentication tag behind the ciphertext.
	TagLen = 16
	// Overhead is what Seal adds to a plaintext.
	Overhead = HeaderLen + TagLen
)

var (
	errLayout = errors.New("wrong length or type")
	errSuite  = errors.New("unknown suite")
)

// initiation is message 1 as it lies in a datagram.
type initiation struct {
	raw    []byte
	suite  Suite
	sender uint32
	noise  []byte // ephemeral, static, timestamp
}

// response is message 2.
type response struct {
	raw      []byte
	suite    Suite
	sender   uint32
	receiver uint32
	noise    []byte // ephemeral, empty payload
}

// cookieReply is message 3.
type cookieReply struct {
	receiver uint32
	nonce    []byte
	cookie   []byte
}

func parseInitiation(b []byte) (initiation, error) {
	suite, err := parseType(b, typeInitiation, initiationLen)
	if err != nil {
		return initiation{}, err
	}
	return initiation{raw: b, suite: suite, sender: binary.LittleEndian.Uint32(b[4:]), noise: b[8:116]}, nil
}

func parseResponse(b []byte) (response, error) {
	suite, err := parseType(b, typeResponse, responseLen)
	if err != nil {
		return response{}, err
	}
	return response{
		raw: b, suite: suite, sender: binary.LittleEndian.Uint32(b[4:]),
		receiver: binary.LittleEndian.Uint32(b[8:]), noise: b[12:60],
	}, nil
}

func parseCookie(b []byte) (cookieReply, error) {
	if len(b) != cookieLen || binary.LittleEndian.Uint32(b) != typeCookie {
		return cookieReply{}, errLayout
	}
	return cookieReply{receiver: binary.LittleEndian.Uint32(b[4:]), nonce: b[8:32], cookie: b[32:]}, nil
}

func parseType(b []byte, kind byte, length int) (Suite, error) {
	if len(b) != length || b[0] != kind || b[2] != 0 || b[3] != 0 {
		return 0, errLayout
	}
	if s := Suite(b[1]); s.known() {
		return s, nil
	}
	return 0, errSuite
}

// newInitiation lays out message 1 up to where the Noise message is appended.
func newInitiation(suite Suite, sender uint32) []byte {
	b := make([]byte, 8, initiationLen)
	b[0], b[1] = typeInitiation, byte(suite)
	binary.LittleEndian.PutUint32(b[4:], sender)
	return b
}

// newResponse lays out message 2 up to where the Noise message is appended.
func newResponse(suite Suite, sender, receiver uint32) []byte {
	b := make([]byte, 12, responseLen)
	b[0], b[1] = typeResponse, byte(suite)
	binary.LittleEndian.PutUint32(b[4:], sender)
	binary.LittleEndian.PutUint32(b[8:], receiver)
	return b
}

// newCookieReply lays out message 3 with room for the nonce, up to where the sealed cookie is appended.
func newCookieReply(receiver uint32) []byte {
	b := make([]byte, 32, cookieLen)
	b[0] = typeCookie
	binary.LittleEndian.PutUint32(b[4:], receiver)
	return b
}
