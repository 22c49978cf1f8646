package netlink

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// expression is a part of a rule: it matches, loads into registers, or does something. One that does not match ends its rule.
type expression struct {
	name  string
	write func(*attrs)
	calls bool // it names a chain
}

// reg is a register of four bytes; a wider value takes those that follow.
func reg(n uint32) uint32 { return unix.NFT_REG32_00 + n }

func payload(base, offset, length, to uint32) expression {
	return expression{name: "payload", write: func(a *attrs) {
		a.u32(unix.NFTA_PAYLOAD_DREG, to)
		a.u32(unix.NFTA_PAYLOAD_BASE, base)
		a.u32(unix.NFTA_PAYLOAD_OFFSET, offset)
		a.u32(unix.NFTA_PAYLOAD_LEN, length)
	}}
}

// Loads from the three headers of a frame.
func link(offset, length, to uint32) expression {
	return payload(unix.NFT_PAYLOAD_LL_HEADER, offset, length, to)
}

func network(offset, length, to uint32) expression {
	return payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, length, to)
}

func transport(offset, length, to uint32) expression {
	return payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, offset, length, to)
}

// fragmentHeader loads from IPv6's fragment header; there is none: no match.
func fragmentHeader(offset, length, to uint32) expression {
	return expression{name: "exthdr", write: func(a *attrs) {
		a.u32(unix.NFTA_EXTHDR_DREG, to)
		a.bytes(unix.NFTA_EXTHDR_TYPE, []byte{44})
		a.u32(unix.NFTA_EXTHDR_OFFSET, offset)
		a.u32(unix.NFTA_EXTHDR_LEN, length)
	}}
}

func meta(key, to uint32) expression {
	return expression{name: "meta", write: func(a *attrs) {
		a.u32(unix.NFTA_META_DREG, to)
		a.u32(unix.NFTA_META_KEY, key)
	}}
}

func compare(op, from uint32, data ...byte) expression {
	return expression{name: "cmp", write: func(a *attrs) {
		a.u32(unix.NFTA_CMP_SREG, from)
		a.u32(unix.NFTA_CMP_OP, op)
		a.nest(unix.NFTA_CMP_DATA, func() { a.bytes(unix.NFTA_DATA_VALUE, data) })
	}}
}

func is(from uint32, data ...byte) expression    { return compare(unix.NFT_CMP_EQ, from, data...) }
func isNot(from uint32, data ...byte) expression { return compare(unix.NFT_CMP_NEQ, from, data...) }

func masked(register uint32, mask ...byte) expression {
	return expression{name: "bitwise", write: func(a *attrs) {
		a.u32(unix.NFTA_BITWISE_SREG, register)
		a.u32(unix.NFTA_BITWISE_DREG, register)
		a.u32(unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		a.nest(unix.NFTA_BITWISE_MASK, func() { a.bytes(unix.NFTA_DATA_VALUE, mask) })
		a.nest(unix.NFTA_BITWISE_XOR, func() { a.bytes(unix.NFTA_DATA_VALUE, make([]byte, len(mask))) })
	}}
}

func inSet(set string, from uint32) expression {
	return expression{name: "lookup", write: func(a *attrs) {
		a.text(unix.NFTA_LOOKUP_SET, set)
		a.u32(unix.NFTA_LOOKUP_SREG, from)
	}}
}

func notInSet(set string, from uint32) expression {
	return expression{name: "lookup", write: func(a *attrs) {
		a.text(unix.NFTA_LOOKUP_SET, set)
		a.u32(unix.NFTA_LOOKUP_SREG, from)
		a.u32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)
	}}
}

// What a packet may do to a set: add keeps the time of what is there, update sets it anew.
const dynAdd, dynUpdate, dynDelete = 0, 1, 2

func change(op uint32, set string, from uint32, timeout time.Duration) expression {
	return expression{name: "dynset", write: func(a *attrs) {
		a.text(unix.NFTA_DYNSET_SET_NAME, set)
		a.u32(unix.NFTA_DYNSET_SREG_KEY, from)
		a.u32(unix.NFTA_DYNSET_OP, op)
		if timeout > 0 {
			a.u64(unix.NFTA_DYNSET_TIMEOUT, uint64(timeout.Milliseconds()))
		}
	}}
}

func constant(to uint32, data ...byte) expression {
	return expression{name: "immediate", write: func(a *attrs) {
		a.u32(unix.NFTA_IMMEDIATE_DREG, to)
		a.nest(unix.NFTA_IMMEDIATE_DATA, func() { a.bytes(unix.NFTA_DATA_VALUE, data) })
	}}
}

func countIn(counter string) expression {
	return expression{name: "objref", write: func(a *attrs) {
		a.u32(unix.NFTA_OBJREF_IMM_TYPE, objectCounter)
		a.text(unix.NFTA_OBJREF_IMM_NAME, counter)
	}}
}

func decide(verdict int32, chain string) expression {
	return expression{name: "immediate", calls: chain != "", write: func(a *attrs) {
		a.u32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		a.nest(unix.NFTA_IMMEDIATE_DATA, func() { a.verdict(verdict, chain) })
	}}
}

// callBy goes where a map says for a key, if it has it.
func callBy(set string, from uint32) expression {
	return expression{name: "lookup", write: func(a *attrs) {
		a.text(unix.NFTA_LOOKUP_SET, set)
		a.u32(unix.NFTA_LOOKUP_SREG, from)
		a.u32(unix.NFTA_LOOKUP_DREG, unix.NFT_REG_VERDICT)
	}}
}

func pass() expression               { return decide(1, "") } // NF_ACCEPT
func discard() expression            { return decide(0, "") } // NF_DROP
func goTo(chain string) expression   { return decide(unix.NFT_GOTO, chain) }
func callTo(chain string) expression { return decide(unix.NFT_JUMP, chain) }

func u16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
