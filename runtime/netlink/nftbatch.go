package netlink

import (
	"encoding/binary"
	"fmt"
	"time"

	mnl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Thousands of rules in one transaction are written here directly: the library would have the kernel acknowledge and repeat each
// of them. The layout is that of include/uapi/linux/netfilter/nf_tables.h; attributes are those of netlink, numbers big endian.
const (
	batchBuffer    = 64 << 20 // bytes: a transaction is one message to the socket
	batchPatience  = 10 * time.Second
	elementsAtOnce = 1000 // of a set, in one attribute of at most 64 KiB
)

// attrs are netlink attributes being written.
type attrs struct{ b []byte }

func (a *attrs) bytes(kind uint16, data []byte) {
	a.b = binary.NativeEndian.AppendUint16(a.b, uint16(4+len(data)))
	a.b = binary.NativeEndian.AppendUint16(a.b, kind)
	a.b = append(a.b, data...)
	for len(a.b)%4 != 0 {
		a.b = append(a.b, 0)
	}
}

func (a *attrs) text(kind uint16, s string) { a.bytes(kind, append([]byte(s), 0)) }

func (a *attrs) u32(kind uint16, v uint32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	a.bytes(kind, b[:])
}

func (a *attrs) u64(kind uint16, v uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	a.bytes(kind, b[:])
}

// nest writes an attribute of attributes.
func (a *attrs) nest(kind uint16, inner func()) {
	at := len(a.b)
	a.b = binary.NativeEndian.AppendUint16(a.b, 0)
	a.b = binary.NativeEndian.AppendUint16(a.b, kind|unix.NLA_F_NESTED)
	inner()
	binary.NativeEndian.PutUint16(a.b[at:], uint16(len(a.b)-at))
}

// verdict writes what is to be done with a packet.
func (a *attrs) verdict(code int32, chain string) {
	a.nest(unix.NFTA_DATA_VERDICT, func() {
		a.u32(unix.NFTA_VERDICT_CODE, uint32(code))
		if chain != "" {
			a.text(unix.NFTA_VERDICT_CHAIN, chain)
		}
	})
}

// batch is one transaction on a table of the bridge family.
type batch struct {
	table    string
	messages []mnl.Message
}

// add puts a message on the batch.
func (b *batch) add(kind int, flags mnl.HeaderFlags, write func(*attrs)) {
	a := attrs{b: make([]byte, 0, 512)}
	a.b = append(a.b, unix.NFPROTO_BRIDGE, unix.NFNETLINK_V0, 0, 0)
	write(&a)
	b.messages = append(b.messages, mnl.Message{
		Header: mnl.Header{Type: mnl.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: mnl.Request | flags}, Data: a.b,
	})
}

func (b *batch) newTable() {
	b.add(unix.NFT_MSG_NEWTABLE, mnl.Create, func(a *attrs) { a.text(unix.NFTA_TABLE_NAME, b.table) })
}

func (b *batch) delTable() {
	b.add(unix.NFT_MSG_DELTABLE, 0, func(a *attrs) { a.text(unix.NFTA_TABLE_NAME, b.table) })
}

// newChain makes a chain, at a hook if there is a priority for it.
func (b *batch) newChain(name string) {
	b.add(unix.NFT_MSG_NEWCHAIN, mnl.Create, func(a *attrs) {
		a.text(unix.NFTA_CHAIN_TABLE, b.table)
		a.text(unix.NFTA_CHAIN_NAME, name)
	})
}

func (b *batch) newBase(name string, hook uint32, priority int32) {
	b.add(unix.NFT_MSG_NEWCHAIN, mnl.Create, func(a *attrs) {
		a.text(unix.NFTA_CHAIN_TABLE, b.table)
		a.text(unix.NFTA_CHAIN_NAME, name)
		a.nest(unix.NFTA_CHAIN_HOOK, func() {
			a.u32(unix.NFTA_HOOK_HOOKNUM, hook)
			a.u32(unix.NFTA_HOOK_PRIORITY, uint32(priority))
		})
		a.u32(unix.NFTA_CHAIN_POLICY, 1) // NF_ACCEPT
		a.text(unix.NFTA_CHAIN_TYPE, "filter")
	})
}

// flushRules takes all rules out of a chain, or of the table.
func (b *batch) flushRules(chain string) {
	b.add(unix.NFT_MSG_DELRULE, 0, func(a *attrs) {
		a.text(unix.NFTA_RULE_TABLE, b.table)
		if chain != "" {
			a.text(unix.NFTA_RULE_CHAIN, chain)
		}
	})
}

func (b *batch) delChain(name string) {
	b.add(unix.NFT_MSG_DELCHAIN, 0, func(a *attrs) {
		a.text(unix.NFTA_CHAIN_TABLE, b.table)
		a.text(unix.NFTA_CHAIN_NAME, name)
	})
}

func (b *batch) rule(chain string, exprs ...expression) {
	b.add(unix.NFT_MSG_NEWRULE, mnl.Create|unix.NLM_F_APPEND, func(a *attrs) {
		a.text(unix.NFTA_RULE_TABLE, b.table)
		a.text(unix.NFTA_RULE_CHAIN, chain)
		a.nest(unix.NFTA_RULE_EXPRESSIONS, func() {
			for _, e := range exprs {
				a.nest(unix.NFTA_LIST_ELEM, func() {
					a.text(unix.NFTA_EXPR_NAME, e.name)
					a.nest(unix.NFTA_EXPR_DATA, func() { e.write(a) })
				})
			}
		})
	})
}

// Attributes that x/sys/unix has not.
const (
	setDescConcat = 2      // NFTA_SET_DESC_CONCAT
	setFieldLen   = 1      // NFTA_SET_FIELD_LEN
	setElemKeyEnd = 10     // NFTA_SET_ELEM_KEY_END
	setConcat     = 1 << 7 // NFT_SET_CONCAT
)

// setSpec is a set of the table. A map's elements say where a packet goes.
type setSpec struct {
	name    string
	keyType uint32 // as nft numbers its data types, for those who list it
	keyLen  uint32
	flags   uint32
	timeout time.Duration // elements go by themselves
	size    uint32        // at most; 0: any
	fields  []uint32      // bytes of the parts of a key of which each is a range
}

// nft's data types (include/datatype.h of nftables), six bits each in a concatenation.
const (
	nftTypeIPv4, nftTypeIPv6, nftTypeEther, nftTypeProto, nftTypePort, nftTypeMark, nftTypeIfname = 7, 8, 9, 12, 13, 19, 41
)

func concat(types ...uint32) uint32 {
	var out uint32
	for _, t := range types {
		out = out<<6 | t
	}
	return out
}

func (b *batch) newSet(s setSpec) {
	b.add(unix.NFT_MSG_NEWSET, mnl.Create, func(a *attrs) {
		a.text(unix.NFTA_SET_TABLE, b.table)
		a.text(unix.NFTA_SET_NAME, s.name)
		a.u32(unix.NFTA_SET_FLAGS, s.flags)
		a.u32(unix.NFTA_SET_KEY_TYPE, s.keyType)
		a.u32(unix.NFTA_SET_KEY_LEN, s.keyLen)
		a.u32(unix.NFTA_SET_ID, uint32(len(b.messages)+1))
		if s.flags&unix.NFT_SET_MAP != 0 {
			a.u32(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
		}
		if s.size > 0 {
			a.nest(unix.NFTA_SET_DESC, func() { a.u32(unix.NFTA_SET_DESC_SIZE, s.size) })
		}
		if len(s.fields) > 0 {
			a.nest(unix.NFTA_SET_DESC, func() {
				a.nest(setDescConcat, func() {
					for _, n := range s.fields {
						a.nest(unix.NFTA_LIST_ELEM, func() { a.u32(setFieldLen, n) })
					}
				})
			})
		}
		if s.timeout > 0 {
			a.u64(unix.NFTA_SET_TIMEOUT, uint64(s.timeout.Milliseconds()))
			a.u32(unix.NFTA_SET_GC_INTERVAL, 5000)
		}
	})
}

func (b *batch) delSet(name string) {
	b.add(unix.NFT_MSG_DELSET, 0, func(a *attrs) {
		a.text(unix.NFTA_SET_TABLE, b.table)
		a.text(unix.NFTA_SET_NAME, name)
	})
}

// element is one of a set; the end of an interval is not in it.
type element struct {
	key  []byte
	end  bool
	last []byte // where parts of keys are ranges: up to this
	call string // of a map: a chain
}

// elements adds to a set, or takes away from it.
func (b *batch) elements(kind int, set string, list []element) {
	for len(list) > 0 {
		now := list[:min(len(list), elementsAtOnce)]
		list = list[len(now):]
		b.add(kind, mnl.Create, func(a *attrs) {
			a.text(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
			a.text(unix.NFTA_SET_ELEM_LIST_SET, set)
			a.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
				for _, e := range now {
					a.nest(unix.NFTA_LIST_ELEM, func() {
						a.nest(unix.NFTA_SET_ELEM_KEY, func() { a.bytes(unix.NFTA_DATA_VALUE, e.key) })
						if e.end {
							a.u32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
						}
						if e.last != nil {
							a.nest(setElemKeyEnd, func() { a.bytes(unix.NFTA_DATA_VALUE, e.last) })
						}
						if e.call != "" {
							a.nest(unix.NFTA_SET_ELEM_DATA, func() { a.verdict(unix.NFT_JUMP, e.call) })
						}
					})
				}
			})
		})
	}
}

// flushSet takes all elements out of a set.
func (b *batch) flushSet(name string) {
	b.add(unix.NFT_MSG_DELSETELEM, 0, func(a *attrs) {
		a.text(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
		a.text(unix.NFTA_SET_ELEM_LIST_SET, name)
	})
}

// objectCounter is NFT_OBJECT_COUNTER.
const objectCounter = 1

func (b *batch) newCounter(name string) {
	b.add(unix.NFT_MSG_NEWOBJ, mnl.Create, func(a *attrs) {
		a.text(unix.NFTA_OBJ_TABLE, b.table)
		a.text(unix.NFTA_OBJ_NAME, name)
		a.u32(unix.NFTA_OBJ_TYPE, objectCounter)
		a.nest(unix.NFTA_OBJ_DATA, func() {})
	})
}

func (b *batch) delCounter(name string) {
	b.add(unix.NFT_MSG_DELOBJ, 0, func(a *attrs) {
		a.text(unix.NFTA_OBJ_TABLE, b.table)
		a.text(unix.NFTA_OBJ_NAME, name)
		a.u32(unix.NFTA_OBJ_TYPE, objectCounter)
	})
}

// nftConn opens a socket for transactions of any size.
func (h *Host) nftConn() (*mnl.Conn, error) {
	conn, err := mnl.Dial(unix.NETLINK_NETFILTER, &mnl.Config{NetNS: int(h.space.file.Fd())})
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	if err := conn.SetDeadline(time.Now().Add(batchPatience)); err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetReadBuffer(watchBuffer) // many errors at once
	return conn, nil
}

// commit has the kernel do all of a batch, or nothing.
func (h *Host) commit(b *batch) error {
	if len(b.messages) == 0 {
		return nil
	}
	conn, err := h.nftConn()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := h.wrote.add(conn); err != nil {
		return fmt.Errorf("open nf_tables: %w", err)
	}
	size := 0
	for i := range b.messages {
		size += len(b.messages[i].Data) + 16
	}
	if err := conn.SetWriteBuffer(min(2*size+64<<10, batchBuffer)); err != nil {
		return fmt.Errorf("make room for %d bytes: %w", size, err)
	}
	b.messages[len(b.messages)-1].Header.Flags |= mnl.Acknowledge // errors come anyway, before it
	sent, err := conn.SendMessages(framed(b.messages))
	if err != nil {
		return fmt.Errorf("send %d bytes to nf_tables: %w", size, err)
	}
	last := sent[len(sent)-2].Header.Sequence
	for {
		got, err := conn.Receive()
		if err != nil {
			return fmt.Errorf("change the nftables table bridge %s: %w", b.table, err)
		}
		for _, m := range got {
			if m.Header.Sequence == last {
				return nil
			}
		}
	}
}

// framed puts the messages between the two that make a transaction of them.
func framed(messages []mnl.Message) []mnl.Message {
	mark := func(kind int) mnl.Message {
		return mnl.Message{
			Header: mnl.Header{Type: mnl.HeaderType(kind), Flags: mnl.Request},
			Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, unix.NFNL_SUBSYS_NFTABLES >> 8, unix.NFNL_SUBSYS_NFTABLES},
		}
	}
	out := append(make([]mnl.Message, 0, len(messages)+2), mark(unix.NFNL_MSG_BATCH_BEGIN))
	return append(append(out, messages...), mark(unix.NFNL_MSG_BATCH_END))
}
