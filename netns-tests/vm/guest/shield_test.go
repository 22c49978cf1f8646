package guest

import (
	"fmt"
	"testing"

	"weave/runtime"
)

// This kernel has all that it takes, or these tests would prove nothing.
func TestSupport(t *testing.T) {
	p := newPair(t, false)
	if s := p.a.kernel.ShieldSupport(); s != (runtime.ShieldSupport{}) {
		t.Fatalf("%+v", s)
	}
	p.a.has(0, 0) // it was tried elsewhere
}

// The life of a shield: nothing passes before there are keys, ESP passes with them, nothing passes once they are gone, and
// then nothing is left.
func TestShield(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *pair) {
		p.a.shield()
		p.b.shield()
		p.a.has(0, 2)
		p.a.tunnel()
		p.b.tunnel()
		p.a.silent(p.b)
		p.b.silent(p.a)
		if now := p.wire.now(); now.esp != 0 {
			t.Errorf("ESP without keys: %+v", now)
		}
		a, b := handshake(t)
		p.a.shield(a)
		p.b.shield(b)
		p.a.has(2, 2)
		before := p.wire.now()
		p.a.reaches(p.b)
		p.b.reaches(p.a)
		p.wire.grows(t, before)
		eventually(t, func() error {
			if now := p.wire.now(); now.spis[a.Out.SPI] == 0 || now.spis[b.Out.SPI] == 0 || len(now.spis) != 2 {
				return fmt.Errorf("not the two SPIs of the keys: %+v", now)
			}
			return nil
		})
		p.a.shield() // the session has gone; the entries of VXLAN are still there
		p.a.has(0, 2)
		p.a.silent(p.b)
		p.b.silent(p.a)
		for _, e := range []*end{p.a, p.b} {
			e.stop()
			e.unshield()
			e.has(0, 0)
		}
		p.wire.neverClear(t)
	})
}

// Both ends must have the same keys.
func TestWrongKeys(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *pair) {
		a, b := handshake(t)
		_, other := handshake(t)
		other.In.SPI, other.Out.SPI = b.In.SPI, b.Out.SPI
		p.a.shield(a)
		p.b.shield(other)
		p.a.tunnel()
		p.b.tunnel()
		before := p.wire.now()
		p.a.silent(p.b)
		p.wire.grows(t, before)
		p.b.silent(p.a)
		p.wire.neverClear(t)
		p.b.shield() // a state is known by its SPI: one with the same would stay as it is
		p.b.shield(b)
		p.a.reaches(p.b)
	})
}
