package stack

import (
	"fmt"
	"maps"
)

// Times of IGMP and MLD with their default variables (RFC 3376 section 8, RFC 3810 section 9), in seconds.
const (
	querierPresent = 255 // 2 queries of 125 s apart and half a response interval: then the querier is gone
	memberPresent  = 260 // 2 queries of 125 s apart and a whole response interval: then the member is gone
	routerPresent  = 255 // for a port that a query or PIM came from
)

// maxSegments bounds how many VLANs and families are followed; frames of others are flooded.
const maxSegments = 256

// snooper is what the writers know of multicast; the switch's mutex guards it. Readers have it as plan.segments.
type snooper struct {
	domains   map[segmentKey]*domain
	groups    int // in all domains
	maxGroups int
}

// domain is one VLAN in one family. Of each port it is known, or not, who is a member behind it:
//
//	         general query            Age, response time over
//	unsure ─────────────────► asked ──────────────────────────► sure
//	   ▲                                                         │
//	   └──── querier silent for 255 s, or the port is new ───────┘
//
// Ports that are not sure get every group, as router ports do. Groups without a member are flooded.
type domain struct {
	until   Stamp                        // the querier counts as present before
	sure    map[Port]portState           // unsure ports are not in it
	routers map[Port]Stamp               // when they cease to be
	groups  map[groupAddr]map[Port]Stamp // members, and when they cease to be
}

// portState is asked or, once Age has come by after sureAt, sure.
type portState struct {
	sureAt Stamp
	sure   bool
}

func newSnooper(maxGroups int) snooper {
	return snooper{domains: map[segmentKey]*domain{}, maxGroups: maxGroups}
}

// domain gives the domain for a key, a new one if there is room, else nil.
func (n *snooper) domain(key segmentKey) *domain {
	d := n.domains[key]
	if d == nil && len(n.domains) < maxSegments {
		d = &domain{sure: map[Port]portState{}, routers: map[Port]Stamp{}, groups: map[groupAddr]map[Port]Stamp{}}
		n.domains[key] = d
	}
	return d
}

// forget drops all that is known of a port.
func (n *snooper) forget(p Port) {
	for _, d := range n.domains {
		delete(d.sure, p)
		delete(d.routers, p)
		for g, members := range d.groups {
			delete(members, p)
			n.prune(d, g)
		}
	}
}

// prune drops a group without members.
func (n *snooper) prune(d *domain, g groupAddr) {
	if len(d.groups[g]) == 0 {
		delete(d.groups, g)
		n.groups--
	}
}

// join notes a member. The first result tells that readers have to know, the second that there was no room.
func (n *snooper) join(d *domain, g groupAddr, in Port, now Stamp) (changed, refused bool) {
	members := d.groups[g]
	if members == nil {
		if n.groups >= n.maxGroups {
			return false, true
		}
		members = map[Port]Stamp{}
		d.groups[g] = members
		n.groups++
	}
	_, known := members[in]
	members[in] = max(members[in], now+memberPresent)
	return !known, false
}

// query notes a general query: it will be answered on every port. It tells whether readers have to know.
func (d *domain) query(p *plan, in Port, now, resp Stamp) bool {
	if now >= d.until {
		clear(d.sure)
	}
	for port := range p.flood.whole.All() {
		if _, asked := d.sure[port]; !asked {
			// The stamps are coarse: a second more, so that the time has passed for certain.
			d.sure[port] = portState{sureAt: now + max(resp, 1) + 1}
		}
	}
	before := d.until
	d.until = max(d.until, now+querierPresent)
	newRouter := d.router(in, now)
	return newRouter || d.until != before
}

// router notes a port with a router behind it and tells whether readers have to know.
func (d *domain) router(in Port, now Stamp) bool {
	_, known := d.routers[in]
	d.routers[in] = max(d.routers[in], now+routerPresent)
	return !known
}

// all says whether a port gets every group.
func (d *domain) all(p Port) bool {
	_, router := d.routers[p]
	return router || !d.sure[p].sure
}

// segment lays the domain out for readers.
func (d *domain) segment(p *plan) *segment {
	seg := &segment{until: d.until, groups: make(map[groupAddr]*outlet, len(d.groups))}
	for g := range d.groups {
		seg.groups[g] = d.outlet(p, g)
	}
	if len(d.routers) > 0 {
		seg.reports = p.pick(func(port Port, kind PortKind) bool {
			_, router := d.routers[port]
			return router || kind == Remote
		})
	}
	return seg
}

// outlet lays one group out: members, and the ports that get all.
func (d *domain) outlet(p *plan, g groupAddr) *outlet {
	members := d.groups[g]
	return p.pick(func(port Port, _ PortKind) bool {
		_, member := members[port]
		return member || d.all(port)
	})
}

// age ends what is over and takes ports from asked to sure. It tells whether readers have to know.
func (n *snooper) age(d *domain, now Stamp) bool {
	changed := false
	if now >= d.until && len(d.sure) > 0 {
		clear(d.sure)
		changed = true
	}
	for port, st := range d.sure {
		if !st.sure && now >= st.sureAt {
			d.sure[port] = portState{sureAt: st.sureAt, sure: true}
			changed = true
		}
	}
	over := func(_ Port, end Stamp) bool { return now >= end }
	routers := len(d.routers)
	maps.DeleteFunc(d.routers, over)
	changed = changed || len(d.routers) != routers
	for g, members := range d.groups {
		before := len(members)
		maps.DeleteFunc(members, over)
		changed = changed || len(members) != before
		n.prune(d, g)
	}
	return changed
}

// idle says that the domain knows nothing.
func (d *domain) idle() bool { return len(d.sure)+len(d.routers)+len(d.groups) == 0 }

// check tells a broken invariant.
func (n *snooper) check() error {
	groups := 0
	for key, d := range n.domains {
		groups += len(d.groups)
		for g, members := range d.groups {
			if len(members) == 0 || g.isLinkScope() {
				return fmt.Errorf("snoop: %v keeps group %v with %d members", key, g, len(members))
			}
		}
	}
	if groups != n.groups || groups > n.maxGroups {
		return fmt.Errorf("snoop: %d groups, counted as %d, room for %d", groups, n.groups, n.maxGroups)
	}
	if len(n.domains) > maxSegments {
		return fmt.Errorf("snoop: %d segments, room for %d", len(n.domains), maxSegments)
	}
	return nil
}
