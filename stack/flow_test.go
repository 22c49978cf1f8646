package stack

import (
	"hash/maphash"
	"testing"

	"pgregory.net/rapid"
)

// Frames of one flow share a hash; what tells flows apart changes it.
func TestFlowHash(t *testing.T) {
	seed := maphash.MakeSeed()
	v4 := func(src, dst, ports byte, more ...func([]byte)) []byte {
		f := make([]byte, 100)
		f[12], f[13], f[14], f[23] = 8, 0, 0x45, 6
		f[29], f[33], f[35] = src, dst, ports
		for _, m := range more {
			m(f)
		}
		return f
	}
	fragment := func(f []byte) { f[21] = 8 }
	v6 := func(src, dst, ports byte) []byte {
		f := make([]byte, 100)
		f[12], f[13], f[14], f[20] = 0x86, 0xdd, 0x60, 17
		f[37], f[53], f[55] = src, dst, ports
		return f
	}
	for _, c := range []struct {
		name string
		a, b []byte
		same bool
	}{
		{"payload", v4(1, 2, 3), v4(1, 2, 3, func(f []byte) { f[90] = 9; f[19] = 7 }), true},
		{"ports", v4(1, 2, 3), v4(1, 2, 4), false},
		{"addresses", v4(1, 2, 3), v4(1, 9, 3), false},
		{"fragments have no ports", v4(1, 2, 3, fragment), v4(1, 2, 4, fragment), true},
		{"ping", v4(1, 2, 3, func(f []byte) { f[23] = 1 }), v4(1, 2, 4, func(f []byte) { f[23] = 1 }), true},
		{"v6 ports", v6(1, 2, 3), v6(1, 2, 4), false},
		{"v6", v6(1, 2, 3), v6(1, 2, 3), true},
	} {
		if got := FlowHash(seed, c.a) == FlowHash(seed, c.b); got != c.same {
			t.Errorf("%s: same hash %v, want %v", c.name, got, c.same)
		}
	}
}

func TestFlowHashTakesAnything(t *testing.T) {
	seed := maphash.MakeSeed()
	rapid.Check(t, func(t *rapid.T) { FlowHash(seed, rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "frame")) })
}
