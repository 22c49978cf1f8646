package peer

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

// plainRecord is parseRecord's oracle: package proto takes the record apart.
func plainRecord(raw []byte) (Record, error) {
	var m wire.Record
	if err := proto.Unmarshal(raw, &m); err != nil {
		return Record{}, fmt.Errorf("%w: %v", ErrBadRecord, err)
	}
	return recordFromWire(&m)
}

// recordFromWire makes a record of the objects that package proto made.
func recordFromWire(m *wire.Record) (Record, error) {
	r := Record{
		Nickname: printable(m.GetNickname(), maxNickname), UID: m.GetUid(), Version: m.GetVersion(),
		Addresses: m.GetAddresses(), Capabilities: Capability(m.GetCapabilities()),
	}
	var ok bool
	if r.Name, ok = nameFromBytes(m.GetName()); !ok {
		return Record{}, fmt.Errorf("%w: name", ErrBadRecord)
	}
	if len(m.GetKey()) != KeyLen {
		return Record{}, fmt.Errorf("%w: key", ErrBadRecord)
	}
	copy(r.Key[:], m.GetKey())
	if m.GetPort() > math.MaxUint16 || len(m.GetNickname()) > maxNickname {
		return Record{}, fmt.Errorf("%w: port or nickname", ErrBadRecord)
	}
	r.Port, r.MTU = uint16(m.GetPort()), uint16(min(m.GetMtu(), math.MaxUint16))
	if k := m.GetTunnelKey(); len(k) == len(r.TunnelKey) { // what we cannot use costs the kernel path, not the peer
		copy(r.TunnelKey[:], k)
	}
	if len(r.Addresses) > maxAddresses || len(m.GetLinks()) > maxLinks {
		return Record{}, fmt.Errorf("%w: too many addresses or links", ErrBadRecord)
	}
	if len(m.GetSecrets()) > maxSecrets {
		return Record{}, fmt.Errorf("%w: too many passwords", ErrBadRecord)
	}
	for _, id := range m.GetSecrets() {
		r.Secrets = append(r.Secrets, SecretID(id))
	}
	for _, a := range r.Addresses {
		if badAddress(a) {
			return Record{}, fmt.Errorf("%w: address", ErrBadRecord)
		}
	}
	var links []Link
	for _, l := range m.GetLinks() {
		link := Link{
			Outbound: l.GetOutbound(), Established: l.GetEstablished(),
			RTT: time.Duration(l.GetRttMicros()) * time.Microsecond, Address: l.GetAddress(),
			Observed: l.GetObserved(), Stream: l.GetStream(), Trusted: l.GetTrusted(),
		}
		if link.Peer, ok = nameFromBytes(l.GetPeer()); !ok || badAddress(link.Address) || badAddress(link.Observed) {
			return Record{}, fmt.Errorf("%w: link", ErrBadRecord)
		}
		links = append(links, link)
	}
	r.Links = MakeLinks(links...)
	return r, nil
}

// sameAsPlain compares what parseRecord makes of some bytes with its oracle.
func sameAsPlain(t *testing.T, raw []byte) {
	t.Helper()
	got, err := parseRecord(raw)
	want, wantErr := plainRecord(raw)
	if (err == nil) != (wantErr == nil) || err != nil && !errors.Is(err, ErrBadRecord) {
		t.Fatalf("%x: %v, by package proto: %v", raw, err, wantErr)
	}
	if err != nil {
		return
	}
	links := slices.Collect(got.Links.All())
	if !slices.Equal(links, slices.Collect(want.Links.All())) || !got.Links.Equal(want.Links) {
		t.Fatalf("%x:\n%+v, by package proto:\n%+v", raw, links, slices.Collect(want.Links.All()))
	}
	if got.Links, want.Links = (Links{}), (Links{}); !reflect.DeepEqual(got, want) {
		t.Fatalf("%x:\n%+v, by package proto:\n%+v", raw, got, want)
	}
}

// linkedRecord is a record with n links.
func linkedRecord(n int) Record {
	r := goldenRecord()
	r.Secrets, r.MTU, r.TunnelKey = []SecretID{1, 1 << 60}, 1410, TunnelKey{7}
	var links []Link
	for i := range n {
		links = append(links, Link{
			Peer: Name{2, 0, 0, 0, 1, byte(i)}, Outbound: i%2 == 0, Established: i%3 == 0, RTT: time.Duration(i) * time.Millisecond,
			Address: fmt.Sprintf("192.0.2.%d:6783", i), Observed: "198.51.100.1:9", Stream: i%5 == 0, Trusted: i%7 == 0,
		})
	}
	r.Links = MakeLinks(links...)
	return r
}

func marshalled(t testing.TB, r Record) []byte {
	t.Helper()
	raw, err := proto.Marshal(r.wire())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestParseRecordLikeProto holds the parser to the wire format where it is easily
// got wrong, in each byte of a good record, and where that ends early.
func TestParseRecordLikeProto(t *testing.T) {
	good := marshalled(t, linkedRecord(5))
	for _, tail := range []string{
		"", "\x0a\x06\x02\x00\x00\x00\x00\x09", // the name again
		"\x12\x02\xff\xfe", "\x12\x00", "\x32\x02\xff\xfe", "\x3a\x04\x2a\x02\xff\xfe", // nickname, address, link's address: no UTF-8
		"\x3a\x00", "\x3a\x08\x0a\x06\x02\x00\x00\x00\x00\x07", "\x3a\x02\x0a\x00", // links
		"\x51\x01\x02\x03\x04\x05\x06\x07\x08", "\x52\x08\x01\x02\x03\x04\x05\x06\x07\x08", "\x52\x07\x01\x02\x03\x04\x05\x06\x07", "\x52\x00", // secrets
		"\x48\xff\xff\x03", "\x48\x80\x80\x80\x80\x10", "\x48\x80\x80\x04", "\x58\x80\x80\x08", // port, MTU
		"\x4a\x01\x01", "\x2d\x01\x02\x03\x04", "\x08\x01", // of another type
		"\x62\x01\x00", "\x62\x00", // tunnel key
		"\x0b\x0c", "\x0b", "\x0c", "\x7b\x7c", "\x07", "\x00", "\xf8\xff\xff\xff\x0f\x01", "\xf8\xff\xff\xff\x1f\x01", // groups and tags
	} {
		sameAsPlain(t, append(append([]byte(nil), good...), tail...))
		sameAsPlain(t, append([]byte(tail), good...))
	}
	for i := range good {
		sameAsPlain(t, good[:i])
		for _, b := range []byte{0, 1, 0x7f, 0x80, 0xff, good[i] ^ 1, good[i] ^ 2} {
			bad := append([]byte(nil), good...)
			bad[i] = b
			sameAsPlain(t, bad)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add(marshalled(f, linkedRecord(3)))
	f.Fuzz(sameAsPlain)
}

// A record of each neighbour comes every few seconds for as long as round-trip
// times waver; an object for each of its links would be most of an idle daemon's garbage.
func TestParseRecordAllocations(t *testing.T) {
	few, many := marshalled(t, linkedRecord(2)), marshalled(t, linkedRecord(200))
	count := func(raw []byte) float64 {
		return testing.AllocsPerRun(100, func() {
			if _, err := parseRecord(raw); err != nil {
				t.Fatal(err)
			}
		})
	}
	if a, b := count(few), count(many); a != b {
		t.Errorf("%v allocations for 2 links, %v for 200", a, b)
	}
}
