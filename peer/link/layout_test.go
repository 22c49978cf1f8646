package link

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestSockaddrGolden(t *testing.T) {
	var a sockaddr
	var z zones
	bytesOf := func(n uint32) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(&a)), n) }

	n := a.put(netip.MustParseAddrPort("10.1.2.3:6783"), false, &z)
	want := append(binary.NativeEndian.AppendUint16(nil, unix.AF_INET), 0x1a, 0x7f, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0)
	if !bytes.Equal(bytesOf(n), want) {
		t.Errorf("v4: %x, want %x", bytesOf(n), want)
	}
	addr := netip.MustParseAddrPort("[fe80::1%7]:258")
	n = a.put(addr, true, &z)
	want = append(binary.NativeEndian.AppendUint16(nil, unix.AF_INET6), 1, 2, 0, 0, 0, 0)
	want = append(want, addr.Addr().AsSlice()...)
	want = binary.NativeEndian.AppendUint32(want, 7)
	if !bytes.Equal(bytesOf(n), want) {
		t.Errorf("v6: %x, want %x", bytesOf(n), want)
	}
	if got := a.addrPort(&z); got != addr {
		t.Errorf("back: %v", got)
	}
	a.raw.Family = unix.AF_UNIX
	if got := a.addrPort(&z); got.IsValid() {
		t.Errorf("another family gave %v", got)
	}
}

func TestSockaddrRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a sockaddr
		var z zones
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")
		v6 := rapid.Bool().Draw(t, "v6")
		if !v6 {
			b = b[:4]
		}
		ip, _ := netip.AddrFromSlice(b)
		if v6 && (ip.Is4In6() || ip.IsLinkLocalUnicast()) {
			t.Skip("never an address of a udp6 socket, or needs a zone")
		}
		want := netip.AddrPortFrom(ip, rapid.Uint16().Draw(t, "port"))
		if a.put(want, v6, &z) == 0 {
			t.Fatal("refused")
		}
		if got := a.addrPort(&z); got != want {
			t.Fatalf("%v became %v", want, got)
		}
		if a.put(want, !v6, &z) != 0 {
			t.Fatal("taken for the other family")
		}
	})
}

// cmsgs builds control messages as the kernel lays them out.
func cmsgs(level, kind int32, value uint32) []byte {
	b := make([]byte, unix.CmsgSpace(4))
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(4))
	binary.NativeEndian.PutUint32(b[unix.CmsgLen(0):], value)
	return b
}

func TestSegmentGolden(t *testing.T) {
	gro := cmsgs(unix.IPPROTO_UDP, unix.UDP_GRO, 1372)
	other := cmsgs(unix.SOL_SOCKET, unix.SO_TIMESTAMP, 99)
	for _, c := range []struct {
		name string
		b    []byte
		want int
	}{
		{"alone", gro, 1372},
		{"after another", append(bytes.Clone(other), gro...), 1372},
		{"another", other, 0},
		{"none", nil, 0},
		{"cut short", gro[:len(gro)-8], 0},
	} {
		if got := parseSegment(c.b); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	var c control
	if n := c.putSegment(1372); n != unix.CmsgSpace(2) {
		t.Errorf("control of %d bytes", n)
	}
	b := (*[controlLen]byte)(unsafe.Pointer(&c))
	if got := binary.NativeEndian.Uint16(b[unix.CmsgLen(0):]); got != 1372 {
		t.Errorf("segment %d", got)
	}
}

func FuzzParseSegment(f *testing.F) {
	f.Add(cmsgs(unix.IPPROTO_UDP, unix.UDP_GRO, 1372))
	f.Add(cmsgs(unix.SOL_SOCKET, 1, 1))
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = parseSegment(b) // must come to an end, and stay inside b
	})
}
