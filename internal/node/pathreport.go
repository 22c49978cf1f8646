package node

import (
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"weave/internal/api"
	"weave/peer"
	"weave/peer/wire"
)

// reportInterval is how old what users see of paths may be.
const reportInterval = time.Second

// pathReports describes the paths to all peers that there is a session with, or
// that one is sought with.
type pathReports map[peer.Name]pathReport

// pathReport is the path to one peer as users see it.
type pathReport struct {
	kind peer.WayKind   // 0: there is none
	addr netip.AddrPort // of a direct one
	via  peer.Name      // of a relayed one
	rtt  time.Duration
	loss float64 // 0 to 1
	mtu  int     // of containers' packets that need not be cut, bytes
	fit  int     // what containers' MTU may be, once it is known for certain; 0 until then
	seal string  // what encrypts it in the kernel: "ipsec", "wireguard"; "" where the daemon does, or nothing
	why  string  // there is no better path; "" where this is the best kind
}

// shownPaths are the pathReports that users may ask for. They are written in place:
// once a second a new map would be most of what an idle daemon allocates.
type shownPaths struct {
	mu   sync.Mutex
	list pathReports
}

// read copies them; nil before the first are known.
func (s *shownPaths) read() pathReports {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.list)
}

// show updates what users may ask for.
func (l *sessionLoop) show() {
	s := &l.reports
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list == nil {
		s.list = make(pathReports)
	}
	for _, p := range l.book.peers {
		if !p.shown() {
			continue
		}
		r := p.report()
		l.showFast(p, &r)
		if _, ok := peer.CommonSecret(*l.secrets.Load(), p.wish.secrets); !ok {
			r.why = "no password in common"
		}
		s.list[p.name] = r
	}
	maps.DeleteFunc(s.list, func(n peer.Name, _ pathReport) bool {
		r := l.book.names[n]
		return r == nil || !l.book.peers[r.key].shown()
	})
}

// shown tells that users see the path to a peer, or why there is none.
func (p *peerState) shown() bool {
	return p.gone.IsZero() && (!p.wish.distant || !p.paths.Best().IsZero())
}

// showFast says of a direct path whether the kernel has it, or why it has not.
func (l *sessionLoop) showFast(p *peerState, r *pathReport) {
	if l.fast == nil || r.kind == 0 {
		return
	}
	on, why := l.fast.carries(p.name)
	if at := p.path.Load(); r.fit != 0 && at != nil && l.fast.core != nil {
		r.fit = min(r.fit, l.fast.shields.fit(l.fast.core.At(p.name), at))
	}
	switch {
	case on:
		r.why, r.seal = "", l.fast.shields.seal(l.fast.core.At(p.name))
		r.mtu = l.fast.host.MTU()
	case r.kind == peer.WayDirect && r.why == "" && why != "":
		r.why = "no " + overlayFast + ": " + why
	}
}

func (p *peerState) report() pathReport {
	at := p.path.Load()
	if at == nil {
		return pathReport{why: p.silence()}
	}
	r, _ := p.paths.Report(at.way)
	out := pathReport{kind: at.way.Kind, addr: at.way.Addr, rtt: r.RTT, loss: r.Loss, mtu: at.limit - wire.FrameOverhead}
	if m := p.paths.MTU(at.way); m != nil && m.Settled() {
		out.fit = p.fit(at)
	}
	if at.via != nil {
		out.via = at.via.name
	}
	if at.way.Kind != peer.WayDirect {
		out.why = p.silence()
	}
	return out
}

// fit is the largest packet that passes whole by a peer's path, and would if it went by IPv6 instead, where that works as
// well: which of the two is faster changes all the time, and the MTU of containers must not.
func (p *peerState) fit(at *path) int {
	limit := at.limit
	for i := range p.paths.Len() {
		w := p.paths.At(i)
		if r, _ := p.paths.Report(w); r.Up && w.Kind == peer.WayDirect && w.Addr.Addr().Is6() && at.way.Kind == peer.WayDirect {
			limit = min(limit, at.mtu-overheadIPv6)
		}
	}
	return limit - wire.FrameOverhead
}

// show makes what the API tells.
func (r pathReport) show(name peer.Name, nicks map[peer.Name]string) api.Path {
	out := api.Path{
		Name: name.String(), NickName: nicks[name], Kind: r.kind.String(), Reason: r.why, Shield: r.seal,
		RTT: float64(r.rtt.Microseconds()) / 1000, Loss: 100 * r.loss, MTU: r.mtu,
	}
	if r.addr.IsValid() {
		out.Address = r.addr.String()
	}
	if !r.via.IsZero() {
		out.Via = peer.Label(r.via, nicks[r.via])
	}
	return out
}

// silence says why no direct path is in use.
func (p *peerState) silence() string {
	switch known, up := p.paths.Tried(); {
	case up > 0:
		return "the direct way is slower"
	case known == 0:
		return "no address known"
	default:
		return fmt.Sprintf("no answer by UDP at %d %s", known, plural(known, "address", "addresses"))
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
