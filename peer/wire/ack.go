package wire

import "encoding/binary"

const (
	tcpAckAt, tcpUrgent = 8, 18 // offsets in the TCP header (RFC 9293)
	tcpACK              = 0x10
	// tcpStamps is how timestamps stand alone among TCP's options: two NOPs, kind 8, ten bytes (RFC 7323, appendix A).
	tcpStamps    = 0x0101080a
	tcpStampsLen = 12
	maxAck       = EthernetLen + 40 + 20 + tcpStampsLen // the longest frame that isAck takes, in bytes
)

// acknowledgement is the last frame that came, kept for the moment because it only acknowledges TCP data: if the next one
// of the batch is the same with more acknowledged, it need not be delivered (RFC 3449, section 5.2.1). A receiver in bulk is
// sent thousands of them a second, and each costs a write and a way through the container's stack.
type acknowledgement struct {
	source uint32
	v      vnet
	size   int // 0: none is kept
	bytes  [maxAck]byte
}

func (a *acknowledgement) frame() []byte { return a.bytes[:a.size] }

// tcpOf is where the TCP header of a frame begins that is as simple as acknowledgements are: no tags, no IP options or
// extension headers, not fragmented, nothing behind the packet. 0: it is not.
func tcpOf(frame []byte) int {
	if len(frame) < EthernetLen+40 {
		return 0
	}
	ip := frame[EthernetLen:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		if ip[0] == 0x45 && ip[9] == protoTCP && binary.BigEndian.Uint16(ip[6:])&0x3fff == 0 && int(binary.BigEndian.Uint16(ip[2:])) == len(ip) {
			return EthernetLen + 20
		}
	case etherIPv6:
		if ip[0]>>4 == 6 && ip[6] == protoTCP && int(binary.BigEndian.Uint16(ip[4:])) == len(ip)-40 {
			return EthernetLen + 40
		}
	}
	return 0
}

// isAck tells whether a frame does nothing but acknowledge TCP data: no payload, no flag but ACK, no option but timestamps.
// Selective acknowledgements and echoes of congestion are others.
func isAck(frame []byte) bool {
	if len(frame) > maxAck {
		return false
	}
	at := tcpOf(frame)
	if at == 0 || len(frame) < at+20 {
		return false
	}
	h := frame[at:]
	if int(h[tcpDataOffset]) != len(h)<<2 || h[tcpFlags] != tcpACK {
		return false
	}
	return len(h) == 20 || len(h) == 20+tcpStampsLen && binary.BigEndian.Uint32(h[20:]) == tcpStamps
}

// outdates tells whether next, which isAck, says all that this one does, and acknowledges more. One that acknowledges
// the same says that something else arrived: those are counted (RFC 5681), and none may be missing.
func (a *acknowledgement) outdates(source uint32, next []byte) bool {
	last := a.frame()
	if a.source != source || len(last) != len(next) {
		return false
	}
	at := tcpOf(next)
	x, y := last[at:], next[at:]
	return sameAddresses(last[:at], next[:at]) &&
		string(x[:tcpAckAt]) == string(y[:tcpAckAt]) && string(x[tcpUrgent:20]) == string(y[tcpUrgent:20]) &&
		int32(binary.BigEndian.Uint32(y[tcpAckAt:])-binary.BigEndian.Uint32(x[tcpAckAt:])) > 0
}

// sameAddresses holds Ethernet and IP headers of one length against each other: all but IPv4's identification and checksum
// must be the same.
func sameAddresses(x, y []byte) bool {
	const ip = EthernetLen
	if string(x[:ip+4]) != string(y[:ip+4]) {
		return false
	}
	if len(x) > ip+20 { // IPv6
		return string(x[ip+4:]) == string(y[ip+4:])
	}
	return string(x[ip+6:ip+10]) == string(y[ip+6:ip+10]) && string(x[ip+12:]) == string(y[ip+12:])
}

// keep puts a frame that only acknowledges aside, in place of one that it outdates. It tells whether it did.
func (j *Joiner) keep(source uint32, v *vnet, frame []byte) bool {
	if !isAck(frame) {
		return false
	}
	if j.ack.size > 0 && j.ack.outdates(source, frame) {
		j.outdated++
	} else {
		j.release()
	}
	j.ack.source, j.ack.v = source, *v
	j.ack.size = copy(j.ack.bytes[:], frame)
	return true
}

// release delivers the frame that was put aside.
func (j *Joiner) release() {
	if j.ack.size > 0 {
		n := j.ack.size
		j.ack.size = 0
		j.give(j.ack.source, &j.ack.v, j.ack.bytes[:n])
	}
}

// Outdated is how many acknowledgements of TCP were not delivered because a later one of their batch said the same and more.
func (j *Joiner) Outdated() uint64 { return j.outdated }
