package control

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

// pending is what waits to be sent on one connection. Gossip merges while it
// waits, so that a slow peer gets the latest state and not a backlog:
//
//	Hello, unknown kinds   kept, in order, first to leave
//	Records                one per peer and key: the highest version
//	Want                   the union of names
//	Digest                 the last
//	Heartbeat              one
//	Data                   up to Limits.Data bytes, in order, last to leave
//
// They leave in this order, which no receiver depends on: each kind says what
// holds whatever came before. pending is plain data; its owner holds a lock.
type pending struct {
	ordered []*wire.Control
	records recordQueue
	wants   map[string]struct{}
	names   [][]byte // of wants, oldest first
	digest  *wire.Control
	beat    bool
	data    [][]byte // messages of data sessions, oldest first
	waiting int      // bytes of data
	bytes   int      // about what it will take on the wire
	merged  int      // messages and records that were replaced, not sent
}

// recordKey says whose record it is: two peers that claim one name are kept
// apart by their keys.
type recordKey struct{ name, key string }

const (
	recordsChunk = 256 << 10 // bytes of records put into one message, unless one alone is longer
	overhead     = 16        // bytes of framing and tags we count per item
)

// add takes m, which must not change any more.
func (p *pending) add(m *wire.Control) {
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		p.keep(m)
		return
	}
	switch k := m.GetKind().(type) {
	case *wire.Control_Records:
		if k.Records == nil || len(k.Records.ProtoReflect().GetUnknown()) > 0 {
			p.keep(m)
			return
		}
		for _, r := range k.Records.GetRecords() {
			p.addRecord(r)
		}
	case *wire.Control_Want:
		if k.Want == nil || len(k.Want.ProtoReflect().GetUnknown()) > 0 {
			p.keep(m)
			return
		}
		for _, name := range k.Want.GetNames() {
			p.addWant(name)
		}
	case *wire.Control_Digest:
		if p.digest != nil {
			p.bytes -= size(p.digest)
			p.merged++
		}
		p.digest = m
		p.bytes += size(m)
	case *wire.Control_Heartbeat:
		p.beat = true
	default:
		p.keep(m)
	}
}

// addData takes a copy of a message of a data session if the room is enough.
func (p *pending) addData(message []byte, room int) bool {
	if p.waiting+len(message)+overhead > room {
		return false
	}
	p.data = append(p.data, bytes.Clone(message))
	p.waiting += len(message) + overhead
	return true
}

// nextData takes the oldest message of a data session.
func (p *pending) nextData() *wire.Control {
	message := p.data[0]
	p.data[0] = nil
	p.data = p.data[1:]
	p.waiting -= len(message) + overhead
	if len(p.data) == 0 {
		p.data = nil
	}
	return &wire.Control{Kind: &wire.Control_Data{Data: &wire.Data{Message: message}}}
}

func (p *pending) keep(m *wire.Control) {
	p.ordered = append(p.ordered, m)
	p.bytes += size(m)
}

func (p *pending) addRecord(r *wire.SignedRecord) {
	key, version, ok := identify(r.GetRecord())
	if !ok { // not ours to judge: the other end counts it
		p.keep(recordsOf([]*wire.SignedRecord{r}))
		return
	}
	w := waiting{key: key, record: r, version: version, bytes: proto.Size(r) + overhead}
	old := p.records.find(key)
	if old == nil {
		p.records.add(w)
		p.bytes += w.bytes
		return
	}
	p.merged++
	if version >= old.version {
		p.bytes += w.bytes - old.bytes
		*old = w
	}
}

func (p *pending) addWant(name []byte) {
	if _, have := p.wants[string(name)]; have {
		p.merged++
		return
	}
	if p.wants == nil {
		p.wants = make(map[string]struct{})
	}
	p.wants[string(name)] = struct{}{}
	p.names = append(p.names, name)
	p.bytes += len(name) + overhead
}

// next takes the next message; nil: nothing waits.
func (p *pending) next() *wire.Control {
	switch {
	case len(p.ordered) > 0:
		m := p.ordered[0]
		p.ordered[0] = nil
		p.ordered = p.ordered[1:]
		p.bytes -= size(m)
		return m
	case len(p.records.items) > 0:
		return p.nextRecords()
	case len(p.names) > 0:
		m := &wire.Control{Kind: &wire.Control_Want{Want: &wire.Want{Names: p.names}}}
		for _, name := range p.names {
			p.bytes -= len(name) + overhead
		}
		p.names, p.wants = nil, nil
		return m
	case p.digest != nil:
		m := p.digest
		p.digest = nil
		p.bytes -= size(m)
		return m
	case p.beat:
		p.beat = false
		return heartbeat()
	case len(p.data) > 0:
		return p.nextData()
	}
	return nil
}

func (p *pending) nextRecords() *wire.Control {
	items, taken, n := p.records.items, 0, 0
	for n < len(items) && (n == 0 || taken+items[n].bytes <= recordsChunk) {
		taken += items[n].bytes
		n++
	}
	out := make([]*wire.SignedRecord, n)
	for i := range out {
		out[i] = items[i].record
	}
	p.records.drop(n)
	p.bytes -= taken
	return recordsOf(out)
}

// identify finds name, key and version in a marshalled Record without decoding
// the rest. Of a field that stands there twice the last counts, as in proto3.
func identify(record []byte) (key recordKey, version uint64, ok bool) {
	for len(record) > 0 {
		field, kind, n := protowire.ConsumeTag(record)
		if n < 0 {
			return recordKey{}, 0, false
		}
		record = record[n:]
		m := protowire.ConsumeFieldValue(field, kind, record)
		if m < 0 {
			return recordKey{}, 0, false
		}
		switch {
		case field == 1 && kind == protowire.BytesType:
			b, _ := protowire.ConsumeBytes(record)
			key.name = string(b)
		case field == 3 && kind == protowire.BytesType:
			b, _ := protowire.ConsumeBytes(record)
			key.key = string(b)
		case field == 5 && kind == protowire.VarintType:
			version, _ = protowire.ConsumeVarint(record)
		}
		record = record[m:]
	}
	return key, version, key.name != ""
}

func size(m *wire.Control) int { return proto.Size(m) + overhead }

func recordsOf(r []*wire.SignedRecord) *wire.Control {
	return &wire.Control{Kind: &wire.Control_Records{Records: &wire.Records{Records: r}}}
}

func heartbeat() *wire.Control {
	return &wire.Control{Kind: &wire.Control_Heartbeat{Heartbeat: &wire.Heartbeat{}}}
}

func goodbye(reason string) *wire.Control {
	return &wire.Control{Kind: &wire.Control_Goodbye{Goodbye: &wire.Goodbye{Reason: reason}}}
}
