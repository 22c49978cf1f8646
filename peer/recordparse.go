package peer

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

// Records are by far most of what peers tell each other: each tells anew when one
// of its links changes, and names all of them. Package proto would make an object
// for each link, with strings of their own, only to have them copied from; so records
// are taken apart here, by the rules of its wire format (protobuf.dev, "Encoding"):
// of a field that stands there twice the last counts, one of an unexpected type is
// passed over like an unknown one, and strings must be UTF-8.

var errEncoding = errors.New("invalid protobuf")

// field is one field of a message. Of value and bytes the one that kind says is set.
type field struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64 // of VarintType and Fixed64Type
	bytes  []byte // of BytesType
}

// eachField shows take the fields of a message, until one is refused.
func eachField(b []byte, take func(f field) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 || number > protowire.MaxValidNumber {
			return errEncoding
		}
		b = b[n:]
		f := field{number: number, kind: kind}
		switch kind {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			f.value, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return errEncoding
		}
		if err := take(f); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// is reports whether the field is a certain one in the type that it should have.
func (f *field) is(number protowire.Number, kind protowire.Type) bool {
	return f.number == number && f.kind == kind
}

// text is a field's string, which shares the message's memory.
func (f *field) text(into *string) error {
	if !utf8.Valid(f.bytes) {
		return errEncoding
	}
	*into = unsafe.String(unsafe.SliceData(f.bytes), len(f.bytes))
	return nil
}

// span is text as a part of the whole message.
func (f *field) span(into *textSpan, whole string) error {
	var s string
	if err := f.text(&s); err != nil || s == "" {
		*into = textSpan{}
		return err
	}
	from := uintptr(unsafe.Pointer(unsafe.StringData(s))) - uintptr(unsafe.Pointer(unsafe.StringData(whole)))
	*into = textSpan{uint16(from), uint16(len(s))}
	return nil
}

// parseRecord takes a marshalled Record of at most maxRecordBytes apart and checks it. The record's strings
// share raw's memory, which must not be changed any more.
func parseRecord(raw []byte) (Record, error) {
	p := recordParser{text: unsafe.String(unsafe.SliceData(raw), len(raw))}
	if err := eachField(raw, p.count); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrBadRecord, err)
	}
	if p.addresses > maxAddresses || p.links > maxLinks {
		return Record{}, fmt.Errorf("%w: too many addresses or links", ErrBadRecord)
	}
	if p.secrets > maxSecrets {
		return Record{}, fmt.Errorf("%w: too many passwords", ErrBadRecord)
	}
	p.reserve()
	if err := eachField(raw, p.take); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrBadRecord, err)
	}
	return p.record, p.check()
}

// recordParser is a record as far as it was read.
type recordParser struct {
	record                    Record
	text                      string // all of it
	addresses, links, secrets int
	name, key                 []byte
	port, mtu                 uint32
}

// count finds how long the record's lists are.
func (p *recordParser) count(f field) error {
	switch {
	case f.is(6, protowire.BytesType):
		p.addresses++
	case f.is(7, protowire.BytesType):
		p.links++
	case f.is(10, protowire.Fixed64Type):
		p.secrets++
	case f.is(10, protowire.BytesType):
		if len(f.bytes)%8 != 0 {
			return errEncoding
		}
		p.secrets += len(f.bytes) / 8
	}
	return nil
}

// reserve makes room for the lists.
func (p *recordParser) reserve() {
	if p.addresses > 0 {
		p.record.Addresses = make([]string, 0, p.addresses)
	}
	if p.links > 0 {
		p.record.Links = Links{make([]linkRow, 0, Ample(p.links)), p.text}
	}
	if p.secrets > 0 {
		p.record.Secrets = make([]SecretID, 0, p.secrets)
	}
}

// take takes one field over.
func (p *recordParser) take(f field) error {
	switch f.kind {
	case protowire.BytesType:
		return p.takeBytes(f)
	case protowire.Fixed64Type:
		switch f.number {
		case 4:
			p.record.UID = f.value
		case 10:
			p.record.Secrets = append(p.record.Secrets, SecretID(f.value))
		}
	case protowire.VarintType:
		switch f.number {
		case 5:
			p.record.Version = f.value
		case 8:
			p.record.Capabilities = Capability(f.value)
		case 9:
			p.port = uint32(f.value)
		case 11:
			p.mtu = uint32(f.value)
		}
	}
	return nil
}

func (p *recordParser) takeBytes(f field) error {
	r := &p.record
	switch f.number {
	case 1:
		p.name = f.bytes
	case 2:
		return f.text(&r.Nickname)
	case 3:
		p.key = f.bytes
	case 6:
		r.Addresses = append(r.Addresses, "")
		return f.text(&r.Addresses[len(r.Addresses)-1])
	case 7:
		r.Links.rows = append(r.Links.rows, linkRow{})
		return r.Links.rows[len(r.Links.rows)-1].parse(f.bytes, p.text)
	case 10:
		for b := f.bytes; len(b) > 0; {
			id, n := protowire.ConsumeFixed64(b)
			r.Secrets, b = append(r.Secrets, SecretID(id)), b[n:]
		}
	case 12:
		r.TunnelKey = TunnelKey{}
		if len(f.bytes) == len(r.TunnelKey) { // what we cannot use costs the kernel path, not the peer
			copy(r.TunnelKey[:], f.bytes)
		}
	}
	return nil
}

// check looks at what was read as a whole.
func (p *recordParser) check() error {
	r := &p.record
	var ok bool
	if r.Name, ok = nameFromBytes(p.name); !ok {
		return fmt.Errorf("%w: name", ErrBadRecord)
	}
	if len(p.key) != KeyLen {
		return fmt.Errorf("%w: key", ErrBadRecord)
	}
	copy(r.Key[:], p.key)
	if p.port > math.MaxUint16 || len(r.Nickname) > maxNickname {
		return fmt.Errorf("%w: port or nickname", ErrBadRecord)
	}
	r.Nickname = printable(r.Nickname, maxNickname)
	r.Port, r.MTU = uint16(p.port), uint16(min(p.mtu, math.MaxUint16))
	for _, a := range r.Addresses {
		if badAddress(a) {
			return fmt.Errorf("%w: address", ErrBadRecord)
		}
	}
	for l := range r.Links.All() {
		if l.Peer.IsZero() || badAddress(l.Address) || badAddress(l.Observed) {
			return fmt.Errorf("%w: link", ErrBadRecord)
		}
	}
	return nil
}
