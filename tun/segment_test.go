package tun

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// superFrame is a TCP super-frame from farAddr with a header that says so.
func superFrame(payload []byte, size int, v6 bool) []byte {
	p := make([]byte, HeaderLen)
	p[0], p[1] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, unix.VIRTIO_NET_HDR_GSO_TCPV4
	l4 := 34
	p = append(append(p, tapMAC...), farMAC...)
	if v6 {
		p[1], l4 = unix.VIRTIO_NET_HDR_GSO_TCPV6, 54
		p = append(p, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64)
		p = append(p, bytes.Repeat([]byte{0xfd}, 32)...)
	} else {
		p = append(p, 0x08, 0x00, 0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, 6, 0, 0)
		p = append(append(p, farAddr.AsSlice()...), tapPrefix.Addr().AsSlice()...)
	}
	binary.NativeEndian.PutUint16(p[4:], uint16(size))
	binary.NativeEndian.PutUint16(p[6:], uint16(l4))
	binary.NativeEndian.PutUint16(p[8:], 16)
	p = append(p, 0x13, 0x88, 0x13, 0x89, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0x50, 0x80|0x10|0x08|0x01, 1, 0, 0, 0, 0, 0)
	return append(p, payload...)
}

// The segments are what a network card would have sent: payload in order, sequence numbers going on (round the corner),
// identification counting up, CWR only first, PSH and FIN only last, checksums right.
func TestSegments(t *testing.T) {
	payload := make([]byte, 2500)
	for i := range payload {
		payload[i] = byte(i)
	}
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			s := newSegmenter()
			p := superFrame(payload, 1000, v6)
			if !s.load([][]byte{p}) {
				t.Fatal("refused")
			}
			var got []byte
			l4 := header(p).csumStart()
			for i := 0; ; i++ {
				parts := s.next()
				if parts == nil {
					break
				}
				f := parts[0]
				if seq := binary.BigEndian.Uint32(f[l4+4:]); seq != 0xffffff00+uint32(len(got)) {
					t.Errorf("segment %d: sequence number %#x", i, seq)
				}
				if want := []byte{0x90, 0x10, 0x19}[i]; f[l4+13] != want {
					t.Errorf("segment %d: flags %#x, want %#x", i, f[l4+13], want)
				}
				checkSegment(t, f, l4, i, v6)
				got = append(got, f[l4+20:]...)
			}
			if !bytes.Equal(got, payload) {
				t.Errorf("%d bytes of %d", len(got), len(payload))
			}
		})
	}
}

func checkSegment(t *testing.T, f []byte, l4, i int, v6 bool) {
	t.Helper()
	if !v6 {
		checkSums(t, f, unix.IPPROTO_TCP)
		if id := binary.BigEndian.Uint16(f[18:]); id != uint16(0xffff+i) {
			t.Errorf("segment %d: identification %#x", i, id)
		}
		return
	}
	if got := int(binary.BigEndian.Uint16(f[18:])); got != len(f)-54 {
		t.Errorf("segment %d: payload length %d", i, got)
	}
	if fold(add(add(unix.IPPROTO_TCP+uint32(len(f)-l4), f[22:54]), f[l4:])) != 0xffff {
		t.Errorf("segment %d: checksum", i)
	}
}

// Whatever comes from the network, the segmenter neither panics nor runs away, and it does not lose payload.
func FuzzSegmenter(f *testing.F) {
	f.Add(superFrame(make([]byte, 3000), 1000, false))
	f.Add(superFrame(make([]byte, 3000), 1, true))
	partial := append(make([]byte, HeaderLen), udpFrame([]byte("x"))...)
	partial[0] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM
	binary.NativeEndian.PutUint16(partial[6:], 34)
	binary.NativeEndian.PutUint16(partial[8:], 6)
	f.Add(partial)
	s := newSegmenter()
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < HeaderLen || !s.load([][]byte{p[:HeaderLen], p[HeaderLen:]}) {
			return
		}
		sum, frames := 0, 0
		for parts := s.next(); parts != nil; parts = s.next() {
			frames++
			sum += len(parts[0]) - s.super.payload
		}
		if want := len(p) - HeaderLen - s.super.payload; sum != want || frames == 0 {
			t.Fatalf("%d bytes in %d frames, want %d", sum, frames, want)
		}
	})
}
