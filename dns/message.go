package dns

import (
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/proto"

	"weave/peer"
)

var errMessage = errors.New("malformed message")

// marshal never fails for messages of ours: they hold checked names only.
func marshal(m *WireMessage) []byte {
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("dns: own message cannot be marshalled: %v", err))
	}
	return out
}

func (d Delta) wire() *WireMessage {
	w := &WireDelta{Run: d.Run, Since: d.Since, Version: d.Version, Head: d.Head}
	for i := range d.Entries {
		e := &d.Entries[i]
		we := &WireEntry{Name: e.Name, Ident: e.Ident, Address: e.Addr.AsSlice(), Version: e.Version, Dead: e.Dead}
		for _, s := range e.Services {
			we.Services = append(we.Services, &WireService{Name: s.Name, Proto: s.Proto, Port: uint32(s.Port)})
		}
		w.Entries = append(w.Entries, we)
	}
	return &WireMessage{Delta: w}
}

// delta reads what origin told; Merge checks the rest.
func (w *WireDelta) delta(origin peer.Name) (Delta, error) {
	d := Delta{Origin: origin, Run: w.GetRun(), Since: w.GetSince(), Version: w.GetVersion(), Head: w.GetHead()}
	for _, we := range w.GetEntries() {
		e := Entry{Version: we.GetVersion(), Dead: we.GetDead()}
		e.Name, e.Ident = we.GetName(), we.GetIdent()
		a, ok := netip.AddrFromSlice(we.GetAddress())
		if !ok {
			return d, fmt.Errorf("%w: an address of %d bytes", errMessage, len(we.GetAddress()))
		}
		e.Addr = a
		for _, s := range we.GetServices() {
			if s.GetPort() > 65535 {
				return d, fmt.Errorf("%w: port %d", errMessage, s.GetPort())
			}
			e.Services = append(e.Services, Service{Name: s.GetName(), Proto: s.GetProto(), Port: uint16(s.GetPort())})
		}
		d.Entries = append(d.Entries, e)
	}
	return d, nil
}

func originOf(b []byte) (peer.Name, error) {
	if len(b) != peer.NameLen || peer.Name(b).IsZero() {
		return peer.Name{}, fmt.Errorf("%w: a name of %d bytes", errMessage, len(b))
	}
	return peer.Name(b), nil
}
