package ipam

import (
	"net/netip"
	"slices"
	"time"
)

// Holding is an address with who has it.
type Holding struct {
	Ident     string
	CIDR      netip.Prefix // the address, with the length of its subnet's prefix
	Container bool         // ends with the container that Ident names
}

// holdings are the addresses that are held here: those of the range, and
// others, which are only remembered.
type holdings struct {
	inside  table
	outside map[netip.Addr]Holding
	dying   map[string]time.Time // idents whose container died: until when they are kept
}

func newHoldings() holdings {
	return holdings{outside: map[netip.Addr]Holding{}, dying: map[string]time.Time{}}
}

// get finds who holds a; in tells whether a is in the range.
func (h *holdings) get(a netip.Addr, in bool) (Holding, bool) {
	if !in {
		v, there := h.outside[a]
		return v, there
	}
	n := h.inside.lookAddr(toUint(a))
	if n == 0 {
		return Holding{}, false
	}
	return h.inside.holding(n), true
}

func (t *table) holding(n uint32) Holding {
	r := t.record(n)
	return Holding{string(t.identOf(r)), netip.PrefixFrom(toAddr(r.addr), int(r.bits)), r.container}
}

// set makes w the holding of its address, whoever had it.
func (h *holdings) set(w Holding, in bool) {
	a := w.CIDR.Addr()
	old, there := h.get(a, in)
	switch {
	case there && old.Ident != w.Ident:
		h.remove(a, in)
	case there && in:
		r := h.inside.record(h.inside.lookAddr(toUint(a)))
		r.bits, r.container = uint8(w.CIDR.Bits()), w.Container
		return
	}
	if in {
		h.inside.add(toUint(a), w.Ident, uint8(w.CIDR.Bits()), w.Container)
	} else {
		h.outside[a] = w
	}
}

// remove ends the holding of a.
func (h *holdings) remove(a netip.Addr, in bool) {
	old, there := h.get(a, in)
	switch {
	case !there:
		return
	case in:
		h.inside.remove(toUint(a))
	default:
		delete(h.outside, a)
	}
	if len(h.of(old.Ident)) == 0 {
		delete(h.dying, old.Ident)
	}
}

// of lists what an ident has: addresses of the range in the order it got them,
// then the others.
func (h *holdings) of(ident string) []Holding {
	var out []Holding
	for n := h.inside.lookIdent(ident); n != 0; n = h.inside.record(n).next {
		out = append(out, h.inside.holding(n))
	}
	if len(h.outside) == 0 {
		return out
	}
	inside := len(out)
	for _, v := range h.outside {
		if v.Ident == ident {
			out = append(out, v)
		}
	}
	slices.SortFunc(out[inside:], byAddress)
	return out
}

func byAddress(x, y Holding) int { return x.CIDR.Addr().Compare(y.CIDR.Addr()) }

// all lists everything, by address.
func (h *holdings) all() []Holding {
	out := make([]Holding, 0, h.len())
	for _, n := range h.inside.byAddr.slots {
		if n != 0 {
			out = append(out, h.inside.holding(n))
		}
	}
	for _, v := range h.outside {
		out = append(out, v)
	}
	slices.SortFunc(out, byAddress)
	return out
}

func (h *holdings) len() int { return h.inside.n + len(h.outside) }
