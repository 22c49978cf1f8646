package stack

import "maps"

// route is how a frame to a group travels.
type route uint8

const (
	routeMembers route = iota // data: to the members of its group
	routeAll                  // to every port
	routeRouters              // to the local routers and all peers, who do the same
)

// multicast decides on a frame for a group address: to those who want it as far as that is known, else to all.
func (s *Switch) multicast(p *plan, now Stamp, f Frame, in Port) Verdict {
	kind := p.kind(in)
	flood := p.groups.from(in, kind)
	if f.dstBits() == macBroadcast {
		return s.spread(flood, Flood, DropNoPort)
	}
	pkt, vlan, ok := parsePacket(f)
	if !ok {
		return s.spread(flood, Flood, DropNoPort)
	}
	key := newSegmentKey(vlan, pkt.dst)
	switch s.control(now, key, &pkt, in) {
	case routeMembers:
		seg := p.segments[key]
		if seg == nil || now >= seg.until || pkt.dst.isLinkScope() {
			break
		}
		if o := seg.groups[pkt.dst]; o != nil {
			return s.spread(o.from(in, kind), Group, DropNoMember)
		}
	case routeRouters:
		if seg := p.segments[key]; seg != nil && seg.reports != nil {
			return s.spread(seg.reports.from(in, kind), Group, DropNoRouter)
		}
	case routeAll:
	}
	return s.spread(flood, Flood, DropNoPort)
}

// control learns from a packet that is about multicast itself and says how the packet travels. Reports of IGMPv1, IGMPv2 and MLDv1 must
// not reach other members: they would keep silent and stay unknown (RFC 4541 section 2.1.1 point 1). Peers have to hear all of
// them, since each knows members on its own. Version 3 and MLDv2 reports silence nobody.
func (s *Switch) control(now Stamp, key segmentKey, pkt *packet, in Port) route {
	var m message
	ok := true
	switch {
	case pkt.proto == protoIGMP && pkt.dst.is4():
		if m, ok = parseIGMP(pkt); !ok {
			s.badIGMP.Add(1)
		}
	case pkt.proto == protoICMPv6 && !pkt.dst.is4() && len(pkt.body) > 0 && isMLD(pkt.body[0]):
		if m, ok = parseMLD(pkt); !ok {
			s.badMLD.Add(1)
		}
	case pkt.proto == protoPIM && pkt.whole && pkt.dst.isLinkScope():
		m.kind = msgRouter
	default:
		return routeMembers
	}
	if !ok {
		return routeAll
	}
	s.observe(now, key, &m, in)
	if m.kind == msgReport || m.kind == msgLeave {
		return routeRouters
	}
	return routeAll
}

// observe takes in a message. Leaves change nothing: a member that left is forgotten when it no longer answers queries, which is
// late but never too early, and a forged leave does no harm.
func (s *Switch) observe(now Stamp, key segmentKey, m *message, in Port) {
	if m.kind == msgOther || m.kind == msgLeave {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.plan.Load()
	if p.kind(in) == 0 {
		return // removed while we were on the way here
	}
	switch m.kind {
	case msgGeneralQuery:
		if d := s.snoop.domain(key); d != nil && d.query(p, in, now, m.resp) {
			s.publish(key, d)
		}
	case msgRouter:
		if d := s.snoop.domain(key); d != nil && d.router(in, now) {
			s.publish(key, d)
		}
	case msgReport:
		s.join(now, key, []groupAddr{m.group}, in)
	case msgRecords:
		s.join(now, key, m.joined(), in)
	}
}

// join takes in that there are members behind a port. Groups of link scope are flooded anyway and take no room.
func (s *Switch) join(now Stamp, key segmentKey, groups []groupAddr, in Port) {
	var news []groupAddr
	var d *domain
	for _, g := range groups {
		if g.isLinkScope() {
			continue
		}
		if d == nil {
			d = s.snoop.domain(key)
		}
		changed, refused := false, true
		if d != nil {
			changed, refused = s.snoop.join(d, g, in, now)
		}
		if refused {
			s.groupsRefused.Add(1)
		}
		if changed {
			news = append(news, g)
		}
	}
	switch len(news) {
	case 0:
	case 1:
		s.publishGroup(key, d, news[0])
	default:
		s.publish(key, d)
	}
}

// publish gives readers a domain, laid out anew; nil takes it away.
func (s *Switch) publish(key segmentKey, d *domain) {
	next := *s.plan.Load()
	next.segments = maps.Clone(next.segments)
	if d == nil {
		delete(next.segments, key)
	} else {
		next.segments[key] = d.segment(&next)
	}
	s.plan.Store(&next)
}

// publishGroup gives readers one group of a domain anew, and the rest as it was: joining is the most frequent change.
func (s *Switch) publishGroup(key segmentKey, d *domain, g groupAddr) {
	old := s.plan.Load().segments[key]
	if old == nil {
		s.publish(key, d)
		return
	}
	next := *s.plan.Load()
	seg := *old
	seg.groups = maps.Clone(old.groups)
	seg.groups[g] = d.outlet(&next, g)
	next.segments = maps.Clone(next.segments)
	next.segments[key] = &seg
	s.plan.Store(&next)
}
