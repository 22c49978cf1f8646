package server

import (
	"math/rand/v2"
	"net"

	mdns "github.com/miekg/dns"

	"weave/dns"
)

// rare answers for pointers and services, which come in a random order.
func (s *Server) rare(q *query, out []byte, a dns.Answer, limit int) []byte {
	var m mdns.Msg
	if err := m.Unpack(q.replyHead(out, 0)); err != nil {
		return q.fail(out, rcodeFormErr)
	}
	m.Compress = true
	name := m.Question[0].Name
	head := func(rrtype uint16, owner string) mdns.RR_Header {
		return mdns.RR_Header{Name: owner, Rrtype: rrtype, Class: classINET, Ttl: s.ttl}
	}
	if a.Pointer != "" {
		m.Answer = append(m.Answer, &mdns.PTR{Hdr: head(dns.TypePTR, name), Ptr: a.Pointer + "."})
	}
	rand.Shuffle(len(a.Targets), func(i, j int) { a.Targets[i], a.Targets[j] = a.Targets[j], a.Targets[i] })
	told := map[string]bool{}
	for _, t := range a.Targets {
		target := t.Name + "."
		srv := &mdns.SRV{Hdr: head(dns.TypeSRV, name), Priority: 0, Weight: 1, Port: t.Port, Target: target}
		if !told[srv.String()] {
			told[srv.String()] = true
			m.Answer = append(m.Answer, srv)
		}
		if t.Addr.Is4() {
			m.Extra = append(m.Extra, &mdns.A{Hdr: head(dns.TypeA, target), A: net.IP(t.Addr.AsSlice())})
		} else {
			m.Extra = append(m.Extra, &mdns.AAAA{Hdr: head(dns.TypeAAAA, target), AAAA: net.IP(t.Addr.AsSlice())})
		}
	}
	if q.edns {
		m.SetEdns0(ownUDP, q.do)
	}
	return pack(&m, limit)
}

// pack makes a message of limit bytes at most; nil if it cannot be made.
func pack(m *mdns.Msg, limit int) []byte {
	m.Truncate(limit)
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}
