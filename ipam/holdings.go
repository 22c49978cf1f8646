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

// holdings are the addresses that are held here: those of the range by number,
// others, which are only remembered, as they are.
type holdings struct {
	inside  map[uint32]held
	outside map[netip.Addr]held
	byIdent map[string][]netip.Addr
	dying   map[string]time.Time // idents whose container died: until when they are kept
}

type held struct {
	ident     string
	bits      uint8
	container bool
}

func newHoldings() holdings {
	return holdings{
		inside: map[uint32]held{}, outside: map[netip.Addr]held{},
		byIdent: map[string][]netip.Addr{}, dying: map[string]time.Time{},
	}
}

// get finds who holds a.
func (h *holdings) get(a netip.Addr, in bool) (Holding, bool) {
	var v held
	var there bool
	if in {
		v, there = h.inside[toUint(a)]
	} else {
		v, there = h.outside[a]
	}
	return Holding{Ident: v.ident, CIDR: netip.PrefixFrom(a, int(v.bits)), Container: v.container}, there
}

// set makes w the holding of its address, whoever had it.
func (h *holdings) set(w Holding, in bool) {
	a := w.CIDR.Addr()
	if old, there := h.get(a, in); !there || old.Ident != w.Ident {
		if there {
			h.remove(a, in)
		}
		h.byIdent[w.Ident] = append(h.byIdent[w.Ident], a)
	}
	v := held{w.Ident, uint8(w.CIDR.Bits()), w.Container}
	if in {
		h.inside[toUint(a)] = v
	} else {
		h.outside[a] = v
	}
}

// remove ends the holding of a.
func (h *holdings) remove(a netip.Addr, in bool) {
	old, there := h.get(a, in)
	if !there {
		return
	}
	if in {
		delete(h.inside, toUint(a))
	} else {
		delete(h.outside, a)
	}
	left := h.byIdent[old.Ident]
	if i := slices.Index(left, a); i >= 0 {
		left = slices.Delete(left, i, i+1)
	}
	if len(left) == 0 {
		delete(h.byIdent, old.Ident)
		delete(h.dying, old.Ident)
	} else {
		h.byIdent[old.Ident] = left
	}
}

// of lists the addresses of an ident, in the order it got them.
func (h *holdings) of(ident string) []netip.Addr { return h.byIdent[ident] }

func (h *holdings) len() int { return len(h.inside) + len(h.outside) }
