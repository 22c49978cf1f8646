package runtime

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"
	"time"
)

// The keys of a secret, calculated with another implementation of HKDF (Python's hmac and hashlib).
func TestDeriveESPGolden(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, ESPSecretLen)
	out, in, err := DeriveESP(secret, true)
	if err != nil {
		t.Fatal(err)
	}
	show := func(k ESPKey) string { return fmt.Sprintf("%08x %s", k.SPI, hex.EncodeToString(k.Key[:])) }
	const wantOut, wantIn = "03e25d86 553636cf922079e4f043581d63403d8a2664098848634b719ea601c5738880610085d39d",
		"317e355e 6c8bcc9733223dd22d041f76b5fb198940dd78c2f16529ca767c9f00812f2ac09f040709"
	if show(out) != wantOut || show(in) != wantIn {
		t.Errorf("out %s, in %s", show(out), show(in))
	}
	theirOut, theirIn, err := DeriveESP(secret, false)
	if err != nil || theirOut != in || theirIn != out {
		t.Errorf("the other end has out %s, in %s, %v", show(theirOut), show(theirIn), err)
	}
	if _, _, err := DeriveESP(secret[1:], true); err == nil {
		t.Error("took a secret that is too short")
	}
}

// Of the generations known, which seals and which open.
func TestShieldOf(t *testing.T) {
	now := time.Unix(1000, 0)
	generation := func(n uint32, age time.Duration, confirmed bool) Generation {
		return Generation{Out: ESPKey{SPI: 1000 + n}, In: ESPKey{SPI: 2000 + n}, Since: now.Add(-age), Confirmed: confirmed}
	}
	for _, c := range []struct {
		name string
		have []Generation
		out  uint32 // 0: nothing leaves
		kept int    // of those that sealed before
	}{
		{"none", nil, 0, 0},
		{"only one that is not confirmed", []Generation{generation(1, time.Hour, false)}, 0, 0},
		{"the first, at once", []Generation{generation(1, 0, true)}, 1001, 0},
		{"an old one while the new one settles", []Generation{generation(1, time.Hour, true), generation(2, espSettle-1, true)}, 1001, 0},
		{"the new one", []Generation{generation(1, time.Hour, true), generation(2, espSettle, true)}, 1002, 1},
		{"the new one alone", []Generation{generation(1, time.Hour, true), generation(2, espSettle+espSpent, true)}, 1002, 0},
		{"an old one while the new one is not confirmed", []Generation{generation(1, time.Hour, true), generation(2, time.Minute, false)}, 1001, 0},
		{"the newest of those that have settled", []Generation{generation(1, time.Hour, true), generation(2, time.Minute, true), generation(3, 0, true)}, 1002, 0},
	} {
		s := ShieldOf(Shield{Local: here, Peer: there(1)}, c.have, now)
		if got := s.Out; (got == nil) != (c.out == 0) || got != nil && got.SPI != c.out {
			t.Errorf("%s: seals with %+v, want %d", c.name, got, c.out)
		}
		if len(s.Spent) != c.kept || c.kept > 0 && s.Spent[0].SPI != 1001 {
			t.Errorf("%s: keeps %+v, want %d", c.name, s.Spent, c.kept)
		}
		for i, g := range c.have {
			if len(s.In) != len(c.have) || s.In[i].SPI != g.In.SPI {
				t.Errorf("%s: opens with %+v", c.name, s.In)
			}
		}
	}
}

// What fits, fits, and one byte more does not.
func TestESPFit(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for size := 600; size < 1600; size++ {
			packet := func(mtu int) int {
				n := mtu + 14 + 8 + 8 + 2 // to be encrypted, and padded
				n += (4 - n%4) % 4
				return n + 20 + 8 + 8 + 16 + map[bool]int{true: 20}[v6]
			}
			if fit := ESPFit(size, v6); packet(fit) > size || packet(fit+1) <= size {
				t.Fatalf("in %d bytes: %d", size, fit)
			}
		}
	}
	if got := ESPFit(1500, false); got != 1416 {
		t.Errorf("in 1500 bytes of IPv4: %d", got)
	}
}
