package ipam

import "encoding/binary"

// table is which addresses of the range are held by whom. A million of them
// take less than 50 MB, which maps of strings do not: each holding is a record
// of 16 bytes, each ident is once in text, and two indexes find records by
// address and by ident.
//
//	byAddr ─► record ─► text        byIdent ─► record ─next─► record (of the same ident)
type table struct {
	records []record
	text    []byte // idents, each after its length as a uvarint
	waste   int    // bytes of text that nobody points to
	unused  uint32 // head of the list of unused records, by next
	n       int
	byAddr  index
	byIdent index // the first record of each ident
}

type record struct {
	addr      uint32
	ident     uint32 // offset in text
	next      uint32 // number of the next record of the ident; 0 is none
	bits      uint8
	container bool
}

// index is a hash table with linear probing; a slot holds the number of a
// record, which counts from 1, or 0.
type index struct {
	slots []uint32
	n     int
}

// hashText is FNV-1a, mixed for its low bits.
func hashText[T string | []byte](s T) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}

func (t *table) record(n uint32) *record { return &t.records[n-1] }

func (t *table) identOf(r *record) []byte {
	size, w := binary.Uvarint(t.text[r.ident:])
	return t.text[int(r.ident)+w : int(r.ident)+w+int(size)]
}

func (t *table) hashAddr(n uint32) uint64  { return mix(uint64(t.record(n).addr)) }
func (t *table) hashIdent(n uint32) uint64 { return hashText(t.identOf(t.record(n))) }

// lookAddr finds the record of an address; 0 is none.
func (t *table) lookAddr(a uint32) uint32 {
	for i := t.byAddr.first(mix(uint64(a))); ; i = t.byAddr.after(i) {
		n := t.byAddr.at(i)
		if n == 0 || t.record(n).addr == a {
			return n
		}
	}
}

// lookIdent finds the first record of an ident; 0 is none.
func (t *table) lookIdent(ident string) uint32 {
	for i := t.byIdent.first(hashText(ident)); ; i = t.byIdent.after(i) {
		n := t.byIdent.at(i)
		if n == 0 || string(t.identOf(t.record(n))) == ident {
			return n
		}
	}
}

// add makes a record of an address that has none.
func (t *table) add(a uint32, ident string, bits uint8, container bool) {
	n := t.fresh()
	*t.record(n) = record{addr: a, bits: bits, container: container}
	if first := t.lookIdent(ident); first != 0 {
		t.record(n).ident = t.record(first).ident
		last := first
		for t.record(last).next != 0 {
			last = t.record(last).next
		}
		t.record(last).next = n
	} else {
		t.record(n).ident = t.write(ident)
		t.byIdent.insert(n, t.hashIdent)
	}
	t.byAddr.insert(n, t.hashAddr)
	t.n++
}

// fresh takes an unused record, or makes room for one more: an eighth at a time,
// because doubling would waste what was saved.
func (t *table) fresh() uint32 {
	if n := t.unused; n != 0 {
		t.unused = t.record(n).next
		return n
	}
	if len(t.records) == cap(t.records) {
		grown := make([]record, len(t.records), len(t.records)+len(t.records)/8+16)
		copy(grown, t.records)
		t.records = grown
	}
	t.records = append(t.records, record{})
	return uint32(len(t.records))
}

func (t *table) write(ident string) uint32 {
	size := len(ident) + binary.MaxVarintLen16
	if len(t.text)+size > cap(t.text) {
		grown := make([]byte, len(t.text), len(t.text)+len(t.text)/8+size+64)
		copy(grown, t.text)
		t.text = grown
	}
	at := uint32(len(t.text))
	t.text = binary.AppendUvarint(t.text, uint64(len(ident)))
	t.text = append(t.text, ident...)
	return at
}

// remove takes the record of an address out.
func (t *table) remove(a uint32) {
	n := t.lookAddr(a)
	if n == 0 {
		return
	}
	r := t.record(n)
	ident := t.identOf(r)
	t.byAddr.remove(n, t.hashAddr)
	first := t.lookIdent(string(ident))
	switch {
	case first != n:
		before := first
		for t.record(before).next != n {
			before = t.record(before).next
		}
		t.record(before).next = r.next
	case r.next != 0:
		t.byIdent.replace(n, r.next, t.hashIdent)
	default:
		t.byIdent.remove(n, t.hashIdent)
		t.waste += len(ident) + 1
	}
	*r = record{next: t.unused}
	t.unused = n
	t.n--
	if t.waste > 1<<12 && t.waste > len(t.text)/2 {
		t.rewrite()
	}
}

// rewrite drops the text that is wasted.
func (t *table) rewrite() {
	old := t.text
	t.text, t.waste = make([]byte, 0, len(old)/2), 0
	for _, first := range t.byIdent.slots {
		if first == 0 {
			continue
		}
		size, w := binary.Uvarint(old[t.record(first).ident:])
		begin := int(t.record(first).ident) + w
		at := t.write(string(old[begin : begin+int(size)]))
		for n := first; n != 0; n = t.record(n).next {
			t.record(n).ident = at
		}
	}
}

func (x *index) first(h uint64) int {
	if len(x.slots) == 0 {
		return -1
	}
	return int(h & uint64(len(x.slots)-1))
}

func (x *index) after(i int) int { return (i + 1) & (len(x.slots) - 1) }

func (x *index) at(i int) uint32 {
	if i < 0 {
		return 0
	}
	return x.slots[i]
}

// insert adds a record that is not there; at most three quarters are filled.
func (x *index) insert(n uint32, hash func(uint32) uint64) {
	if (x.n+1)*4 > len(x.slots)*3 {
		old := x.slots
		x.slots, x.n = make([]uint32, max(16, 2*len(old))), 0
		for _, o := range old {
			if o != 0 {
				x.insert(o, hash)
			}
		}
	}
	i := x.first(hash(n))
	for x.slots[i] != 0 {
		i = x.after(i)
	}
	x.slots[i] = n
	x.n++
}

func (x *index) slotOf(n uint32, hash func(uint32) uint64) int {
	i := x.first(hash(n))
	for x.slots[i] != n {
		i = x.after(i)
	}
	return i
}

// replace puts a record in the place of another with the same hash.
func (x *index) replace(n, by uint32, hash func(uint32) uint64) { x.slots[x.slotOf(n, hash)] = by }

// remove takes a record out, and moves those behind it up that would not be
// found otherwise (Knuth, The Art of Computer Programming 3, 6.4, algorithm R).
func (x *index) remove(n uint32, hash func(uint32) uint64) {
	hole := x.slotOf(n, hash)
	x.slots[hole] = 0
	x.n--
	for i := x.after(hole); x.slots[i] != 0; i = x.after(i) {
		home := x.first(hash(x.slots[i]))
		if (i-home)&(len(x.slots)-1) >= (i-hole)&(len(x.slots)-1) {
			x.slots[hole], x.slots[i] = x.slots[i], 0
			hole = i
		}
	}
}
