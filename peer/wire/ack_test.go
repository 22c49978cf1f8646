package wire

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// ackFrame makes a frame that acknowledges TCP data up to a number.
func ackFrame(v6, stamps bool, number uint32) []byte {
	frame := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}
	tcp := make([]byte, 20, 32)
	if stamps {
		tcp = append(tcp, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2)
	}
	binary.BigEndian.PutUint32(tcp[tcpAckAt:], number)
	tcp[1], tcp[3], tcp[tcpDataOffset], tcp[tcpFlags] = 80, 90, byte(len(tcp)<<2), tcpACK
	if v6 {
		frame[12], frame[13] = 0x86, 0xdd
		ip := make([]byte, 40)
		ip[0], ip[5], ip[6], ip[7], ip[23], ip[39] = 0x60, byte(len(tcp)), protoTCP, 64, 1, 2
		return slices.Concat(frame, ip, tcp)
	}
	ip := []byte{0x45, 0, 0, byte(20 + len(tcp)), 0, byte(number), 0x40, 0, 64, protoTCP, byte(number), 0, 10, 0, 0, 1, 10, 0, 0, 2}
	return slices.Concat(frame, ip, tcp)
}

// ackSpoils are changes of an acknowledgement, by offset in its TCP or IP header, after which no other may stand for it, nor it
// for others.
var ackSpoils = map[string]func(frame, ip, tcp []byte){
	"another MAC":               func(f, _, _ []byte) { f[5]++ },
	"another address":           func(_, ip, _ []byte) { ip[19]++ },
	"congestion experienced":    func(_, ip, _ []byte) { ip[1] |= 0x30 },
	"another port":              func(_, _, tcp []byte) { tcp[3]++ },
	"another sequence":          func(_, _, tcp []byte) { tcp[7]++ },
	"FIN":                       func(_, _, tcp []byte) { tcp[tcpFlags] |= tcpFIN },
	"an echo of congestion":     func(_, _, tcp []byte) { tcp[tcpFlags] |= 0x40 },
	"the nonce or accurate ECN": func(_, _, tcp []byte) { tcp[tcpDataOffset] |= 1 },
	"an urgent pointer":         func(_, _, tcp []byte) { tcp[tcpUrgent]++ },
	"another hop limit": func(_, ip, _ []byte) {
		if ip[0]>>4 == 6 {
			ip[7]++
		} else {
			ip[8]++
		}
	},
}

func recordOf(frame []byte) []byte {
	b, ok := AppendFrame(nil, append(make([]byte, VnetLen), frame...), 1400)
	if !ok {
		panic("too long")
	}
	return b
}

// frames is a sink that keeps all frames.
type frames [][]byte

func (f *frames) Packet(_ uint32, parts [][]byte) { *f = append(*f, slices.Concat(parts...)[VnetLen:]) }

func TestLaterAcknowledgementsStandForEarlierOnes(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, stamps := range []bool{false, true} {
			var got frames
			j := NewJoiner(&got, false)
			for _, n := range []uint32{0xfffffff0, 4, 5, 5, 9, 8} {
				j.Add(1, recordOf(ackFrame(v6, stamps, n)))
			}
			j.Flush()
			var numbers []uint32
			for _, f := range got {
				numbers = append(numbers, binary.BigEndian.Uint32(f[tcpOf(f)+tcpAckAt:]))
			}
			if want := []uint32{5, 9, 8}; !slices.Equal(numbers, want) || j.Outdated() != 3 {
				t.Errorf("IPv6 %v, timestamps %v: got %v, want %v; %d outdated", v6, stamps, numbers, want, j.Outdated())
			}
		}
	}
}

func TestOtherFramesAreNoAcknowledgements(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for what, spoil := range ackSpoils {
			for _, second := range []bool{false, true} {
				in := [][]byte{ackFrame(v6, true, 1), ackFrame(v6, true, 2)}
				f := in[0]
				if second {
					f = in[1]
				}
				spoil(f, f[EthernetLen:], f[len(f)-32:])
				var got frames
				j := NewJoiner(&got, false)
				j.Add(1, append(recordOf(in[0]), recordOf(in[1])...))
				j.Flush()
				if len(got) != 2 || !bytes.Equal(got[0], in[0]) || !bytes.Equal(got[1], in[1]) {
					t.Errorf("IPv6 %v, %s, second %v: got %x", v6, what, second, got)
				}
			}
		}
	}
	for what, f := range map[string][]byte{
		"data":                      append(ackFrame(false, true, 2), 1),
		"selective acknowledgement": bytes.Replace(ackFrame(false, true, 2), []byte{1, 1, 8, 10}, []byte{1, 1, 5, 10}, 1),
		"padding":                   append(ackFrame(false, false, 2), make([]byte, 6)...),
	} {
		if isAck(f) {
			t.Errorf("%s is taken for a mere acknowledgement", what)
		}
	}
}

// Whatever comes between, the order stays, and only what a later one of the same batch says is left out.
func TestAcknowledgementsKeepTheirPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var got frames
		var sent [][]byte
		j, c := NewJoiner(&got, rapid.Bool().Draw(t, "plain")), NewCutter(0, 0)
		for range rapid.IntRange(1, 30).Draw(t, "frames") {
			f := ackFrame(rapid.Bool().Draw(t, "v6"), rapid.Bool().Draw(t, "stamps"), uint32(rapid.IntRange(0, 5).Draw(t, "number")))
			in := [][]byte{recordOf(f)}
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				f = traffic{proto: "raw", payload: 50}.build()[VnetLen:]
				in = [][]byte{recordOf(f)}
			case 1:
				f = traffic{proto: "raw", payload: 2000}.build()[VnetLen:]
				in = plaintexts(c, append(make([]byte, VnetLen), f...), 1440)
			case 2:
				j.Flush()
			}
			sent = append(sent, f)
			for _, p := range in {
				j.Add(1, p)
			}
		}
		j.Flush()
		at := 0
		for i, f := range sent {
			if at < len(got) && bytes.Equal(got[at], f) {
				at++
				continue
			}
			a := acknowledgement{source: 1, size: copy(make([]byte, maxAck), f)}
			copy(a.bytes[:], f)
			if i+1 == len(sent) || !isAck(f) || !isAck(sent[i+1]) || !a.outdates(1, sent[i+1]) {
				t.Fatalf("frame %d is missing: %x", i, f)
			}
		}
		if at != len(got) || uint64(len(sent)-at) != j.Outdated() {
			t.Fatalf("%d of %d frames, %d outdated", at, len(sent), j.Outdated())
		}
	})
}
