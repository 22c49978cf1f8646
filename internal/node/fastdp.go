package node

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/curve25519"

	"weave/internal/store"
	"weave/peer"
	"weave/peer/wire"
	"weave/runtime"
	"weave/runtime/netlink"
	"weave/stack"
)

const (
	// overlayFast is Weave Net's word for the kernel path.
	overlayFast = "fastdp"
	// learnAgain is how often the kernel is told at most where a MAC is.
	learnAgain = time.Second
	// ageing is how long the bridge remembers a MAC, as ours must (include/uapi/linux/if_bridge.h): what it has
	// forgotten and we remember would be sent to where it was before the kernel knew better.
	ageing = 300 * time.Second
)

// fastdp joins what decides about the kernel path with the kernel, and with the data plane. It belongs to the session loop, but for what
// do does, in its worker: beats, and while jobs are under way sparse.
//
// Which set a peer is in, the kernel's or ours, counts for what we send to everybody. Frames to one station take the
// path that the bridge knows it behind; one that comes to us although the peer is in the kernel's set (the bridge knows
// better from before, or nothing) is put into the tunnel here, so that the other end's kernel learns from it, and the
// bridge is told.
type fastdp struct {
	core   *peer.FastPaths // nil: there is no kernel path here, and off says why
	kernel *netlink.Fast
	// wireguard is what encrypts the kernel's VXLAN where IPsec does not; nil: there is none.
	wireguard *netlink.WireGuard
	off       string

	dp     *dataplane
	store  *store.Store
	log    *slog.Logger
	self   peer.Name
	secret [32]byte // X25519
	host   *netlink.Host
	fastRules
	shields *shields // what encrypts it; nil if there is no kernel path
	queue   *fastQueue

	beats  []netip.Addr // to whom they go
	sparse bool
	fastMemory
}

// fastMemory is what the session loop keeps of peers and stations.
type fastMemory struct {
	learnt map[stack.MAC]time.Time
	moving map[peer.Name]int // moves under way
}

// fastRules are what the operator says about who may be on the kernel path.
type fastRules struct {
	port    uint16         // of data sessions; the kernel path's is the next
	trusted []netip.Prefix // where clear text may go although there is a password
	auto    bool           // the MTU follows the paths
}

// run does the jobs, and passes on the beats that come.
func (f *fastdp) run(ctx context.Context) error {
	if f.core == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var worker sync.WaitGroup
	worker.Go(func() { f.work(ctx) })
	defer worker.Wait()
	defer cancel()
	return f.kernel.Listen(ctx, func(frame []byte) {
		if b, ok := wire.ParseFastBeat(frame[min(len(frame), wire.EthernetLen):]); ok {
			offer(f.dp.fastBeats, b)
		}
	})
}

// close gives up what the daemon holds; what the kernel does it goes on doing.
func (f *fastdp) close() {
	if f != nil && f.kernel != nil {
		f.kernel.Close()
	}
	if f != nil && f.wireguard != nil {
		f.wireguard.Close()
	}
}

// state tells how far a peer is, and why frames to it go through user space.
func (f *fastdp) state(n peer.Name) (on bool, why string) {
	if f.core == nil {
		return false, f.off
	}
	s, why := f.core.State(n)
	return s == wire.FastOn, why
}

// carries is state as others may know it: on, once the kernel does what it was told.
func (f *fastdp) carries(n peer.Name) (on bool, why string) {
	if on, why = f.state(n); on && f.moving[n] > 0 {
		return false, "the kernel is being told"
	}
	return on, why
}

// key is that of the reports exchanged with a peer; it is made once, as there are several a second.
func (f *fastdp) key(p *peerState) *[32]byte {
	if p.reportKey != nil {
		return p.reportKey
	}
	shared, err := curve25519.X25519(f.secret[:], p.remote.key[:])
	if err != nil { // the session machine has refused such keys
		return &[32]byte{}
	}
	key := wire.FastKey(shared)
	p.reportKey = &key
	return p.reportKey
}

// perform has done what the core says, in its order: shields first and at once, since the keys of sessions need them, then what takes
// time, by the worker, then what depends on that.
func (f *fastdp) perform(l *sessionLoop, eff peer.FastEffects) {
	now := time.Now()
	for _, s := range eff.Raise {
		p := l.named(s.Name)
		if runtime.IsTunnel(s.At) {
			f.shields.tunnels.raise(s.At, p, l.fastEndpoint(p), now)
		} else {
			f.shields.raise(s.At, p)
		}
	}
	if len(eff.Raise) > 0 || eff.Changed {
		f.shields.apply(now)
	}
	j := fastJob{save: eff.Save, beat: eff.Beat, admit: eff.Changed, then: fastThen{reports: eff.Reports}}
	if eff.Changed {
		j.allow, j.beats = f.shields.without(eff.Allow), f.shields.without(eff.Beats)
	}
	for _, m := range eff.Moves {
		move := fastMove{FastMove: m}
		if l != nil {
			move.p = l.named(m.Name)
		}
		j.moves, j.then.moved = append(j.moves, move), append(j.then.moved, m.Name)
		f.moving[m.Name]++
	}
	for _, s := range eff.Lower {
		j.then.lower = append(j.then.lower, s.At)
	}
	f.enqueue(l, j)
}

// enqueue gives a job to the worker, or does it where nothing is to be waited for, or where the worker has ended, or has not begun:
// without a loop.
func (f *fastdp) enqueue(l *sessionLoop, j fastJob) {
	if j.empty() || l != nil && !(j.quick() && f.queue.quiet()) && f.queue.put(j) {
		return
	}
	f.do(j)
	f.after(l, j.then, time.Now())
}

// do is the worker's part of a job.
func (f *fastdp) do(j fastJob) {
	if j.save != nil {
		if err := f.store.Put(keyFast, j.save); err != nil {
			f.log.Warn("cannot save who is on the kernel path", "err", err)
		}
	}
	if j.admit {
		f.admit(j.allow, j.beats)
	}
	for _, m := range j.moves {
		f.move(m)
	}
	if j.beat != nil {
		payload := wire.AppendFastBeat(nil, wire.FastBeat{Name: f.self, Nonce: *j.beat})
		if err := f.kernel.Beat(payload); err != nil { // the path is left when they do not arrive
			f.log.Debug("beat", "err", err)
		}
	}
	if j.learn != nil {
		if err := f.kernel.Learn(j.learn.mac, j.learn.at); err != nil {
			f.log.Debug("cannot tell the kernel of a station", "err", err)
		}
	}
}

// after is what waits for a job. Without a loop there is nobody to tell.
func (f *fastdp) after(l *sessionLoop, then fastThen, now time.Time) {
	for _, a := range then.lower {
		f.shields.lower(a, now)
	}
	for _, n := range then.moved {
		if f.moving[n]--; f.moving[n] == 0 {
			delete(f.moving, n)
		}
	}
	if l == nil {
		return
	}
	for _, n := range then.moved {
		if p := l.named(n); p != nil {
			p.news = true
		}
	}
	for _, s := range then.reports {
		l.sendReport(s)
	}
}

// admit lets in those that are tried or on, and sends them beats. Nobody is let in where the rules cannot be changed,
// so that then nobody comes to be on.
func (f *fastdp) admit(allow, beats []netip.Addr) {
	if err := f.kernel.Allow(allow); err != nil {
		f.log.Warn("cannot change who may use the kernel path", "err", err)
	}
	for _, a := range f.beats {
		if !slices.Contains(beats, a) {
			f.complain(f.kernel.SetBeat(a, false))
		}
	}
	for _, a := range beats {
		if !slices.Contains(f.beats, a) {
			f.complain(f.kernel.SetBeat(a, true))
		}
	}
	f.beats = beats
}

func (f *fastdp) complain(err error) {
	if err != nil {
		f.log.Warn("the kernel path is not as it should be", "err", err)
	}
}

// move takes a peer from one set to the other. For a moment it is in neither: before it is in a set, the TAP's queue is
// empty of frames that were sent while it was in the other. So a frame for everybody may miss it, and never comes twice.
//
// The moment is one call of the kernel, in which it changes the flood list, and on the way off the TAP's queue: which of the
// frames of that moment the kernel has sent nobody can tell, so none is sent again. Frames to one station follow later.
func (f *fastdp) move(m fastMove) {
	if m.On {
		f.take(m.p, m.At, true)
		f.dp.drain()
		f.bypass(m.p, true)
		if err := f.kernel.SetFlood(m.At, true); err != nil {
			f.complain(err)
			f.bypass(m.p, false) // what is for everybody goes on going by us
		}
		f.log.Info("on the kernel path", "peer", m.Name, "at", m.At)
		return
	}
	f.complain(f.kernel.SetFlood(m.At, false))
	f.dp.drain()
	f.bypass(m.p, false)
	f.take(m.p, m.At, false)
	for _, a := range append(slices.Clone(m.Froms), m.At) {
		f.complain(f.kernel.Forget(a))
	}
	f.log.Info("off the kernel path", "peer", m.Name, "at", m.At, "why", m.Why)
}

// take says whether frames to one station behind a peer go by the kernel, if they come to us at all.
func (f *fastdp) take(p *peerState, at netip.Addr, on bool) {
	if p == nil {
		return
	}
	by := exitSession
	if on {
		by = exitTunnel + exit(netlink.TunnelTo(at))
	}
	p.exit.Store(uint32(by))
}

// bypass says whether the kernel sends to a peer what is for everybody.
func (f *fastdp) bypass(p *peerState, on bool) {
	if p != nil {
		f.dp.sw.Bypass(p.port, on && !f.sparse)
	}
}

// spread follows the network's size: in a sparse one what is for everybody is flooded by neighbours, and not by the kernel.
func (f *fastdp) spread(l *sessionLoop, sparse bool) {
	if f.core == nil || f.sparse == sparse {
		return
	}
	f.queue.settle()
	f.sparse = sparse
	if sparse {
		f.complain(f.kernel.Broadcast(false))
		f.dp.drain()
	}
	for _, p := range l.book.peers {
		on, _ := f.state(p.name)
		f.bypass(p, on)
	}
	if !sparse {
		f.complain(f.kernel.Broadcast(true))
	}
}

// stray tells the kernel where a station is whose frames come to us although its peer is on the kernel path.
func (f *fastdp) stray(l *sessionLoop, s stray, now time.Time) {
	p := l.book.ports[s.port]
	if f.core == nil || p == nil {
		return
	}
	at := f.core.At(p.name)
	if on, _ := f.state(p.name); !on || now.Sub(f.learnt[s.mac]) < learnAgain {
		return
	}
	for mac, when := range f.learnt {
		if now.Sub(when) >= learnAgain {
			delete(f.learnt, mac)
		}
	}
	f.learnt[s.mac] = now
	f.enqueue(l, fastJob{learn: &fastStation{mac: s.mac, at: at}})
}
