package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"weave/peer"
)

// maxIdent bounds what names a holder, bytes; an engine's id has 64.
const maxIdent = 512

var errMessage = errors.New("malformed message")

func nameOf(b []byte) (peer.Name, error) {
	if len(b) != peer.NameLen {
		return peer.Name{}, fmt.Errorf("%w: a name of %d bytes", errMessage, len(b))
	}
	n := peer.Name(b)
	if n.IsZero() || n[0]&1 != 0 {
		return peer.Name{}, fmt.Errorf("%w: name %s", errMessage, n)
	}
	return n, nil
}

func namesOf(in [][]byte) ([]peer.Name, error) {
	var out []peer.Name
	for _, b := range in {
		n, err := nameOf(b)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

func prefixOf(start, bits uint32) (netip.Prefix, error) {
	if bits > 32 {
		return netip.Prefix{}, fmt.Errorf("%w: a prefix of %d bits", errMessage, bits)
	}
	p := netip.PrefixFrom(toAddr(start), int(bits))
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%w: bits after the prefix of %s", errMessage, p)
	}
	return p, nil
}

// memberTable numbers members while a delta is written.
type memberTable struct {
	index map[Member]uint32
	w     *WireDelta
	nicks map[peer.Name]string
}

func (t *memberTable) of(m Member) uint32 {
	i, there := t.index[m]
	if !there {
		i = uint32(len(t.index))
		t.index[m] = i
		t.w.Names = append(t.w.Names, m.Name[:])
		t.w.Lives = append(t.w.Lives, m.Life)
		t.w.Nicknames = append(t.w.Nicknames, t.nicks[m.Name])
	}
	return i
}

// wire writes a delta; nicks are those the sender knows.
func (d Delta) wire(nicks map[peer.Name]string) *WireDelta {
	w := &WireDelta{Settled: d.Settled}
	for _, s := range d.Genesis.Seeds {
		w.Seeds = append(w.Seeds, s[:])
	}
	t := memberTable{index: map[Member]uint32{}, w: w, nicks: nicks}
	for _, e := range d.Entries {
		w.Start = append(w.Start, e.Start)
		w.Last = append(w.Last, e.Last)
		w.Version = append(w.Version, e.Version)
		w.Owner = append(w.Owner, t.of(e.Owner))
	}
	for gone, heir := range d.Tombs {
		w.Gone = append(w.Gone, t.of(gone))
		w.Heir = append(w.Heir, t.of(heir))
	}
	return w
}

// delta reads a delta, with the nicknames its sender knows. It shares nothing
// with w but strings.
func (w *WireDelta) delta(r netip.Prefix) (Delta, map[peer.Name]string, error) {
	seeds, err := namesOf(w.GetSeeds())
	if err != nil {
		return Delta{}, nil, err
	}
	names, err := namesOf(w.GetNames())
	if err != nil {
		return Delta{}, nil, err
	}
	n := len(w.GetStart())
	if len(w.GetLives()) != len(names) || len(w.GetLast()) != n || len(w.GetVersion()) != n || len(w.GetOwner()) != n || len(w.GetGone()) != len(w.GetHeir()) {
		return Delta{}, nil, fmt.Errorf("%w: lists of different lengths", errMessage)
	}
	member := func(i uint32) (Member, error) {
		if int64(i) >= int64(len(names)) {
			return Member{}, fmt.Errorf("%w: member %d of %d", errMessage, i, len(names))
		}
		return Member{names[i], w.GetLives()[i]}, nil
	}
	d := Delta{Genesis: Genesis{Range: r, Seeds: seeds}, Settled: append([]uint64(nil), w.GetSettled()...), Entries: make([]Entry, n)}
	for i := range n {
		owner, err := member(w.Owner[i])
		if err != nil {
			return Delta{}, nil, err
		}
		d.Entries[i] = Entry{w.Start[i], w.Last[i], w.Version[i], owner}
	}
	for i := range w.GetGone() {
		gone, err := member(w.Gone[i])
		if err != nil {
			return Delta{}, nil, err
		}
		heir, err := member(w.Heir[i])
		if err != nil {
			return Delta{}, nil, err
		}
		if d.Tombs == nil {
			d.Tombs = map[Member]Member{}
		}
		d.Tombs[gone] = heir
	}
	return d, nicknames(names, w.GetNicknames()), nil
}

func nicknames(names []peer.Name, nicks []string) map[peer.Name]string {
	out := map[peer.Name]string{}
	for i, nick := range nicks {
		if i < len(names) && nick != "" {
			out[names[i]] = printable(nick, maxNick)
		}
	}
	return out
}

// maxNick bounds a nickname, bytes.
const maxNick = 255

// printable makes a text that others sent fit for terminals and logs.
func printable(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	if utf8.ValidString(s) && strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unprintable(r) {
			return '?'
		}
		return r
	}, s)
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// parseMessage reads a message of another peer.
func parseMessage(data []byte) (*WireMessage, netip.Prefix, error) {
	m := &WireMessage{}
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, netip.Prefix{}, fmt.Errorf("%w: %w", errMessage, err)
	}
	r, err := prefixOf(m.GetRangeStart(), m.GetRangeBits())
	return m, r, err
}

func marshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("ipam: marshal %T: %v", m, err)) // only invalid UTF-8 does, and texts are checked where they enter
	}
	return b
}
