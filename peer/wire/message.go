package wire

import "encoding/binary"

// The four messages of WireGuard, as its paper (section 5.4) lays them out. Everything is little endian. Byte 1 of the
// first two messages, which WireGuard keeps zero, says which suite the handshake is for; see Suite below.
//
//	Initiation, 148 bytes                            Response, 92 bytes
//	 0      1      2..3   4..7                        0      1      2..3   4..7     8..11
//	+------+------+------+----------+                +------+------+------+--------+----------+
//	| 1    |suite | 0  0 | sender   |                | 2    |suite | 0  0 | sender | receiver |
//	+------+------+------+----------+                +------+------+------+--------+----------+
//	| 8..39    ephemeral, clear     |                | 12..43   ephemeral, clear              |
//	| 40..87   static, sealed       |                | 44..59   nothing, sealed               |
//	| 88..115  TAI64N, sealed       |                | 60..75   mac1                          |
//	| 116..131 mac1                 |                | 76..91   mac2                          |
//	| 132..147 mac2                 |                +----------------------------------------+
//	+-------------------------------+
//
//	Cookie reply, 64 bytes                           Data, 16 + plaintext + 16 bytes
//	 0      1..3       4..7                           0      1..3       4..7       8..15
//	+------+----------+-----------+                  +------+----------+----------+-----------+
//	| 3    | 0  0  0  | receiver  |                  | 4    | 0  0  0  | receiver | counter   |
//	+------+----------+-----------+                  +------+----------+----------+-----------+
//	| 8..31    nonce              |                  | 16..     sealed plaintext, then tag    |
//	| 32..63   cookie, sealed     |                  +----------------------------------------+
//	+-----------------------------+
const (
	TypeInitiation = 1
	TypeResponse   = 2
	TypeCookie     = 3
	TypeData       = 4

	InitiationLen = 148 // bytes
	ResponseLen   = 92  // bytes
	CookieLen     = 64  // bytes

	DataHeaderLen = 16                     // bytes before the sealed plaintext of a data message
	TagLen        = 16                     // bytes of the authentication tag behind it, with either suite
	DataOverhead  = DataHeaderLen + TagLen // bytes a data message is longer than its plaintext
)

// The suites a handshake can be for, as byte 1 of initiation and response.
const (
	SuiteWireGuard = 0 // ChaCha20-Poly1305, exactly WireGuard's
	SuiteAESGCM    = 1 // AES-256-GCM under a Noise prologue of its own, between two weave peers
	SuiteClear     = 2 // no sealing of data, under a prologue of its own, where both ends' operators allow it
)

// MessageType tells what a datagram claims to be. ok is false when it is none of the four messages: unknown type or
// suite, reserved bytes set, or a length the type cannot have.
func MessageType(b []byte) (typ, suite uint8, ok bool) {
	if len(b) < 4 || b[2]|b[3] != 0 {
		return 0, 0, false
	}
	typ, suite = b[0], b[1]
	switch typ {
	case TypeInitiation:
		ok = len(b) == InitiationLen && suite <= SuiteClear
	case TypeResponse:
		ok = len(b) == ResponseLen && suite <= SuiteClear
	case TypeCookie:
		ok = len(b) == CookieLen && suite == 0
	case TypeData:
		ok = len(b) >= DataOverhead && suite == 0
	}
	return typ, suite, ok
}

// ReceiverIndex is the index by which a response, cookie reply or data message names its receiver's handshake or key.
// ok is false for everything else; an initiation has none.
func ReceiverIndex(b []byte) (index uint32, ok bool) {
	typ, _, ok := MessageType(b)
	if !ok {
		return 0, false
	}
	switch typ {
	case TypeResponse:
		return binary.LittleEndian.Uint32(b[8:]), true
	case TypeCookie, TypeData:
		return binary.LittleEndian.Uint32(b[4:]), true
	}
	return 0, false
}
