package wire

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// stream is super-frames that follow each other, each with that much payload, in segments of size bytes.
func stream(size int, payloads ...int) (packets [][]byte) {
	p := traffic{proto: "tcp4", super: true, gsoSize: size, tcpFlags: 0x18, tcpExtra: 12, payload: payloads[0], seed: 7}.build()
	for _, n := range payloads[1:] {
		next := follow(p, n)
		packets, p = append(packets, p), next
	}
	return append(packets, p)
}

// all take long frames.
func all([]byte) bool { return true }

// feed has a joiner take packets that arrive whole, but for the plaintexts that lost names by their number.
func feed(j *Joiner, limit int, packets [][]byte, lost ...int) {
	c, n := NewCutter(0, 0), 0
	for _, p := range packets {
		for _, b := range plaintexts(c, p, limit) {
			if !slices.Contains(lost, n) {
				arrive(j, 1, b, unsealed{})
			}
			n++
		}
	}
}

func TestSuperFramesFollowEachOther(t *testing.T) {
	second := func(packets [][]byte, change func(ip, tcp []byte)) [][]byte {
		change(packets[1][VnetLen+14:], packets[1][VnetLen+34:])
		return packets
	}
	for _, c := range []struct {
		name    string
		packets [][]byte
		lost    []int
		want    []string
	}{
		{name: "seven and two", packets: stream(1000, slices.Repeat([]int{60000}, 9)...), want: []string{"1:420066", "1:120066"}},
		{name: "the third is lost", packets: stream(1000, 2000, 2000, 2000, 2000), lost: []int{4, 5}, want: []string{"1:4066", "1:2066"}},
		{name: "of the third the end is lost", packets: stream(1000, 2000, 2000, 2000, 2000), lost: []int{5}, want: []string{"1:5066", "1:2066"}},
		{name: "no more than an IPv4 header can say", packets: stream(1000, 3000, 2000), want: []string{"1:5066"}},
		{name: "the last is shorter", packets: stream(1000, 60000, 1500), want: []string{"1:61566"}},
		{name: "nothing follows a rest", packets: stream(1000, 60500, 2000), want: []string{"1:60566", "1:2066"}},
		{name: "the end is lost", packets: stream(1000, 5000, 5000), lost: []int{8, 9}, want: []string{"1:8066"}},
		{name: "the beginning is lost", packets: stream(1000, 5000, 5000), lost: []int{0, 1}, want: []string{"1:8066"}},
		{name: "the border is lost", packets: stream(1000, 5000, 5000), lost: []int{4, 5}, want: []string{"1:4066", "1:4066"}},
		{name: "one of the second is lost", packets: stream(1000, 5000, 5000), lost: []int{6}, want: []string{"1:6066", "1:3066"}},
		{
			name: "other acknowledgement", want: []string{"1:5066", "1:5066"},
			packets: second(stream(1000, 5000, 5000), func(_, tcp []byte) { tcp[tcpAckAt]++ }),
		},
		{
			name: "other window", want: []string{"1:5066", "1:5066"},
			packets: second(stream(1000, 5000, 5000), func(_, tcp []byte) { tcp[tcpFlags+1]++ }),
		},
		{
			name: "other options", want: []string{"1:5066", "1:5066"},
			packets: second(stream(1000, 5000, 5000), func(_, tcp []byte) { tcp[31]++ }),
		},
		{
			name: "other urgent pointer", want: []string{"1:5066", "1:5066"},
			packets: second(stream(1000, 5000, 5000), func(_, tcp []byte) { tcp[tcpUrgent]++ }),
		},
		{
			name: "a checksum that will be wrong", want: []string{"1:5066", "1:5066"},
			packets: second(stream(1000, 5000, 5000), func(_, tcp []byte) { tcp[tcpCsum]++ }),
		},
		{
			name: "the end of the stream", want: []string{"1:5066", "1:5066"},
			packets: second(stream(1000, 5000, 5000), func(_, tcp []byte) { tcp[tcpFlags] |= tcpFIN }),
		},
		{
			name: "other port", want: []string{"1:5066", "1:5066"},
			packets: second(stream(1000, 5000, 5000), func(_, tcp []byte) { tcp[0]++ }),
		},
		{
			name: "a gap", want: []string{"1:5066", "1:5066"},
			packets: second(stream(1000, 5000, 5000), func(_, tcp []byte) { tcp[7]++ }),
		},
		{
			name: "other identification", want: []string{"1:5066", "1:5066"},
			packets: second(stream(1000, 5000, 5000), func(ip, _ []byte) { ip[5]++ }),
		},
		{
			name: "other congestion mark", want: []string{"1:5066", "1:5066"},
			packets: second(stream(1000, 5000, 5000), func(ip, _ []byte) { ip[1] ^= 3 }),
		},
		{
			name: "other address", want: []string{"1:5066", "1:5066"},
			packets: second(stream(1000, 5000, 5000), func(ip, _ []byte) { ip[19]++ }),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got story
			j := NewJoiner(&got, false)
			j.Chain(all)
			feed(j, 1440, c.packets, c.lost...)
			j.Flush()
			got.want(t, c.want...)
		})
	}
}

// packetsOf is a sink that keeps what it gets.
type packetsOf [][]byte

func (p *packetsOf) Packet(_ uint32, parts [][]byte) { *p = append(*p, slices.Concat(parts...)) }

// A chain says of itself what one super-frame would: the segments that a kernel makes of it are those of its parts that arrived.
func TestChainSaysWhatItsPartsDo(t *testing.T) {
	for _, c := range []struct{ payloads, lost []int }{
		{payloads: []int{60000, 60000}},
		{payloads: []int{2000, 3000}},
		{payloads: []int{64000, 64321}},
		{payloads: []int{65000, 65000, 65000, 65000, 65000, 65000, 65123}},
		{payloads: []int{3000, 3000, 3000}, lost: []int{0, 8}},
		{payloads: []int{60000, 60000}, lost: []int{0, 1}},
		{payloads: []int{60000, 60000}, lost: []int{118, 119}},
		{payloads: []int{5000, 5000}, lost: []int{0, 9}},
	} {
		var got packetsOf
		j := NewJoiner(&got, false)
		j.Chain(all)
		packets := stream(1000, c.payloads...)
		feed(j, 1440, packets, c.lost...)
		j.Flush()
		if len(got) != 1 {
			t.Fatalf("%v: %d packets", c, len(got))
		}
		have, err := oracle(got[0], 0)
		if err != nil {
			t.Fatal(err)
		}
		var want [][]byte
		for _, p := range packets {
			frames, err := oracle(p, 0)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, frames...)
		}
		for i, n := range c.lost {
			want = slices.Delete(want, n-i, n-i+1)
		}
		if n := len(want) - 1; slices.Contains(c.lost, n+len(c.lost)) { // PSH was on the last
			want, have = want[:n], have[:n]
		}
		if !slices.EqualFunc(have, want, bytes.Equal) {
			t.Errorf("%v: %d segments, want %d", c, len(have), len(want))
		}
		if n := binary.BigEndian.Uint16(got[0][VnetLen+16:]); (n == 0) != (len(got[0]) > 1<<16) {
			t.Errorf("%v: length %d in the header of %d bytes", c, n, len(got[0]))
		}
	}
}

// PSH of any of the parts is on the chain.
func TestChainKeepsPush(t *testing.T) {
	packets := stream(1000, 5000, 5000)
	packets[0][VnetLen+34+tcpFlags] |= tcpPSH
	packets[1][VnetLen+34+tcpFlags] &^= tcpPSH
	var got packetsOf
	j := NewJoiner(&got, false)
	j.Chain(all)
	feed(j, 1440, packets)
	j.Flush()
	if len(got) != 1 || got[0][VnetLen+34+tcpFlags] != tcpACK|tcpPSH {
		t.Errorf("%d packets, flags %#x", len(got), got[0][VnetLen+34+tcpFlags])
	}
}

// Who does not take long frames, and a TAP without offloads, gets none; and nothing is kept back for one that may not come.
func TestNoChains(t *testing.T) {
	for name, prepare := range map[string]func(*Joiner){
		"nobody asked": func(*Joiner) {},
		"nobody takes": func(j *Joiner) { j.Chain(func([]byte) bool { return false }) },
	} {
		var got story
		j := NewJoiner(&got, false)
		prepare(j)
		feed(j, 1440, stream(1000, 5000, 5000))
		got.want(t, "1:5066", "1:5066")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	var got story
	j := NewJoiner(&got, true)
	j.Chain(all)
	feed(j, 1440, stream(1000, 2000, 2000))
	got.want(t, "1:1066", "1:1066", "1:1066", "1:1066")
}

// Frames that come between two super-frames, and other streams, keep their places.
func TestChainsKeepOrder(t *testing.T) {
	var got story
	j := NewJoiner(&got, false)
	j.Chain(all)
	packets, c := stream(1000, 5000, 5000), NewCutter(0, 0)
	feed(j, 1440, packets[:1])
	got.want(t)
	small, _ := AppendFrame(nil, traffic{proto: "raw", payload: 46, seed: 1}.build(), 1440)
	arrive(j, 1, small, unsealed{})
	got.want(t, "1:5066", "1:60")
	feed(j, 1440, packets[1:])
	got.want(t, "1:5066", "1:60")
	for _, b := range segments(5, 9, c)[:4] { // another stream
		arrive(j, 1, b, unsealed{})
	}
	got.want(t, "1:5066", "1:60", "1:5066")
	j.Flush()
	got.want(t, "1:5066", "1:60", "1:5066", "1:454")
}
