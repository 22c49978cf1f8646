package stack

import (
	"encoding/binary"
	"hash/maphash"
)

// FlowHash is a number that all frames of one flow have in common, in one
// direction, under one seed: of addresses and ports of TCP and UDP over
// IP without extensions, else of what addresses the frame shows. It may be
// called concurrently.
func FlowHash(seed maphash.Seed, frame []byte) uint32 {
	return uint32(maphash.Bytes(seed, flowKey(frame)))
}

// flowKey is the part of a frame that its flow has in common: for IPv4 (RFC 791)
// bytes 12 to 20 of the header and four more of ports, for IPv6 (RFC 8200) bytes
// 8 to 40 and four more, else both MAC addresses.
func flowKey(frame []byte) []byte {
	const eth = 14
	if len(frame) < eth+44 {
		return frame[:min(len(frame), 12)]
	}
	ip := frame[eth:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		if ip[0] != 0x45 || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 || !hasPorts(ip[9]) {
			return ip[12:20]
		}
		return ip[12:24]
	case 0x86dd:
		if !hasPorts(ip[6]) {
			return ip[8:40]
		}
		return ip[8:44]
	}
	return frame[:12]
}

func hasPorts(protocol byte) bool { return protocol == 6 || protocol == 17 }
