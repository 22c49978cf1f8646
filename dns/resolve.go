package dns

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
)

// Types of queries that names are answered for (RFC 1035, 3596, 2782).
const (
	TypeA    uint16 = 1
	TypePTR  uint16 = 12
	TypeAAAA uint16 = 28
	TypeSRV  uint16 = 33
)

// Verdict says what becomes of a query.
type Verdict uint8

// Verdicts.
const (
	Forward  Verdict = iota // not ours: ask other name servers
	Unknown                 // there is no such name: NXDOMAIN
	Nothing                 // the name is known and has nothing of this type: NOERROR
	Answered                // see the other fields of Answer
)

// Answer is what is known about a query.
type Answer struct {
	Verdict Verdict
	Addrs   []byte // TypeA and TypeAAAA: 4 or 16 bytes each
	Pointer string // TypePTR, without the dot at its end
	Targets []Target
}

// Target is where a service is served.
type Target struct {
	Name string // without the dot at its end
	Addr netip.Addr
	Port uint16
}

// Resolve answers a query for a name, in lower case and without the dot at its
// end. Names of one label are taken to be in the domain. Nothing in the domain
// is ever forwarded. For addresses it does not allocate.
func (x *Index) Resolve(d Domain, name []byte, qtype uint16) Answer {
	if len(name) == 0 {
		return Answer{Verdict: Forward}
	}
	if bytes.IndexByte(name, '.') < 0 {
		if len(name) > MaxLabel || len(name)+1+len(d) > MaxName {
			return Answer{Verdict: Unknown}
		}
		var full [MaxLabel + 1 + MaxName]byte
		n := copy(full[:], name)
		full[n] = '.'
		n += 1 + copy(full[n+1:], d)
		return x.ours(full[:n], qtype)
	}
	switch cut := len(name) - len(d); {
	case cut == 0 && string(name) == string(d):
		return Answer{Verdict: Nothing}
	case cut > 1 && name[cut-1] == '.' && string(name[cut:]) == string(d):
		return x.ours(name, qtype)
	}
	return x.reverse(name, qtype)
}

func (x *Index) ours(name []byte, qtype uint16) Answer {
	s := x.Name(name)
	switch {
	case s == nil:
		return x.service(name, qtype)
	case qtype == TypeA && len(s.V4) > 0:
		return Answer{Verdict: Answered, Addrs: s.V4}
	case qtype == TypeAAAA && len(s.V6) > 0:
		return Answer{Verdict: Answered, Addrs: s.V6}
	}
	return Answer{Verdict: Nothing}
}

// service answers for _service._proto.NAME (RFC 2782).
func (x *Index) service(name []byte, qtype uint16) Answer {
	parts := strings.SplitN(string(name), ".", 3)
	if len(parts) < 3 || !strings.HasPrefix(parts[0], "_") || !strings.HasPrefix(parts[1], "_") {
		return Answer{Verdict: Unknown}
	}
	s := x.Name([]byte(parts[2]))
	if s == nil {
		return Answer{Verdict: Unknown}
	}
	want, proto := parts[0][1:], parts[1][1:]
	var targets []Target
	for _, o := range s.Entries {
		for _, v := range o.Services {
			if v.Proto == proto && (strings.EqualFold(v.Name, want) || strconv.Itoa(int(v.Port)) == want) {
				targets = append(targets, Target{Name: o.Name, Addr: o.Addr, Port: v.Port})
			}
		}
	}
	switch {
	case len(targets) == 0:
		return Answer{Verdict: Unknown}
	case qtype != TypeSRV:
		return Answer{Verdict: Nothing}
	}
	return Answer{Verdict: Answered, Targets: targets}
}

// reverse answers for addresses. Those of others are for others to name.
func (x *Index) reverse(name []byte, qtype uint16) Answer {
	a, zone := ParseReverse(name)
	switch {
	case !zone:
		return Answer{Verdict: Forward}
	case !a.IsValid():
		if qtype == TypePTR {
			return Answer{Verdict: Forward}
		}
		return Answer{Verdict: Unknown}
	}
	host, ok := x.Pointer(a)
	switch {
	case ok && qtype == TypePTR:
		return Answer{Verdict: Answered, Pointer: host}
	case ok:
		return Answer{Verdict: Nothing}
	case qtype == TypePTR:
		return Answer{Verdict: Forward}
	}
	return Answer{Verdict: Unknown}
}

// ParseReverse reads d.c.b.a.in-addr.arpa and its IPv6 counterpart (RFC 1035,
// 3.5; RFC 3596, 2.5), in lower case. zone tells that the name is below one of
// the two; the address is not valid if the name is not that of a whole one.
func ParseReverse(name []byte) (a netip.Addr, zone bool) {
	if rest, ok := bytes.CutSuffix(name, []byte(".in-addr.arpa")); ok {
		parts := strings.Split(string(rest), ".")
		if len(parts) != 4 {
			return a, true
		}
		a, _ = netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		return a, true
	}
	rest, ok := bytes.CutSuffix(name, []byte(".ip6.arpa"))
	if !ok || len(rest) != 63 {
		return a, ok
	}
	var b [16]byte
	for i := range 32 {
		digit := strings.IndexByte("0123456789abcdef", rest[62-2*i])
		if digit < 0 || (i < 31 && rest[61-2*i] != '.') {
			return a, true
		}
		b[i/2] = b[i/2]<<4 | byte(digit)
	}
	if a = netip.AddrFrom16(b); a.Is4In6() {
		return netip.Addr{}, true
	}
	return a, true
}
