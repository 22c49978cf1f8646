package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"weave/internal/api"
	"weave/internal/store"
	"weave/peer"
	"weave/policy"
	"weave/stack/filter"
)

const (
	// keyPolicy is where the state file has the policy of the network, and
	// policyOrigin what of it has the endpoints of other peers.
	keyPolicy    = "policy/document"
	policyOrigin = "policy/origin/"

	policyQueue  = 1024
	policyRetry  = 5 * time.Second  // after it could not be enforced
	policySaving = 2 * time.Second  // after endpoints of others have changed
	policyCounts = 10 * time.Second // between looks at the counters

	policyWarning = time.Minute // between warnings of the same
)

// policyLoop owns policy.Core and what follows from it: who is meant, and what the
// kernel or the data plane holds frames against.
type policyLoop struct {
	n      *node
	core   *policy.Core
	log    *slog.Logger
	shown  atomic.Pointer[api.PolicyStatus]
	doc    *filter.Document // nil: there is no policy
	fault  string           // why the policy is not enforced
	ends   map[endKey]policy.Endpoint
	nicks  map[peer.Name]string
	told   map[peer.Name]uint64
	dirty  map[peer.Name]bool // endpoints that are not saved yet
	due    policyTimes
	user   policyUser
	meant  *filter.Members
	queues policyQueues

	untracked struct { // as the counter was, and when there may be a warning again
		count uint64
		again time.Time
	}
}

// endKey names an endpoint.
type endKey struct {
	origin peer.Name
	id     string
}

// policyTimes are when something is done again; zero: never.
type policyTimes struct{ save, retry, count time.Time }

// policyUser enforces where there is no bridge: in the data plane.
type policyUser struct {
	flows  *filter.Flows
	counts *filter.Counts
}

// policyQueues lead to the loop.
type policyQueues struct {
	in      chan policyCall
	look    chan struct{} // there is a new view of the mesh
	kick    chan struct{} // what is attached has changed
	dropped atomic.Uint64
}

// policyCall is an input, or a question, with where the reply goes.
type policyCall struct {
	in    policy.Input
	ask   *policyQuestion
	reply chan<- policyReply // has room; nil = nobody cares
}

// policyQuestion asks what a packet would meet.
type policyQuestion struct{ from, to, service string }

type policyReply struct {
	status  api.PolicyStatus
	verdict api.PolicyVerdict
	err     error
}

// openPolicy takes over the policy that was there before. It comes before frames
// move.
func (n *node) openPolicy() error {
	v := n.mesh.view.Load()
	if v == nil {
		return errors.New("policy: the mesh has no view of itself")
	}
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails, crypto/rand
	l := &policyLoop{
		n: n, log: n.log.With("part", "policy"),
		core:  policy.New(policy.Config{Name: n.memory.name, Run: v.Self.UID, Rand: mathrand.NewChaCha8(seed)}),
		ends:  map[endKey]policy.Endpoint{},
		nicks: map[peer.Name]string{},
		dirty: map[peer.Name]bool{},
		user:  policyUser{counts: filter.NewCounts()},
		queues: policyQueues{
			in: make(chan policyCall, policyQueue), look: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		},
	}
	n.policy = l
	was, err := l.recall()
	if err != nil {
		return err
	}
	l.lookAround()
	l.step(policy.Own{Endpoints: n.endpoints()})
	l.step(was)
	l.adopt()
	n.mesh.subscribe(peer.ChannelPolicy, l.heard)
	n.mesh.watchers = append(n.mesh.watchers, func(*peer.View) { nudge(l.queues.look) })
	n.attachments.changed = l.rouse
	if n.names != nil {
		n.names.changed = l.rouse
	}
	return nil
}

// savedPolicy is the document as the state file has it, savedOrigin another peer's
// endpoints.
type savedPolicy struct{ policy.Document }

type savedOrigin struct {
	Nickname  string
	Endpoints []policy.Endpoint
}

func (l *policyLoop) recall() (policy.Recall, error) {
	was := policy.Recall{Origins: map[peer.Name][]policy.Endpoint{}}
	text, ok, err := l.n.store.Get(keyPolicy)
	if err != nil {
		return was, err
	}
	var doc savedPolicy
	if ok && json.Unmarshal(text, &doc) != nil {
		l.log.Warn("the policy in the state file is unreadable and forgotten; other hosts may have it")
	}
	was.Document = doc.Document
	saves, err := l.n.store.List(policyOrigin)
	if err != nil {
		return was, err
	}
	for _, s := range saves {
		name, err := peer.ParseName(strings.TrimPrefix(s.Key, policyOrigin))
		var o savedOrigin
		if err != nil || json.Unmarshal(s.Value, &o) != nil {
			continue // it is told again
		}
		was.Origins[name], l.nicks[name] = o.Endpoints, o.Nickname
	}
	return was, nil
}

// heard takes a message of another peer's core.
func (l *policyLoop) heard(from peer.Name, data []byte) {
	select {
	case l.queues.in <- policyCall{in: policy.Message{From: from, Data: data}}:
	default:
		l.queues.dropped.Add(1)
	}
}

// rouse has the loop look at what is attached. It may be called before there is one.
func (l *policyLoop) rouse() {
	if l != nil {
		nudge(l.queues.kick)
	}
}

func nudge(ch chan<- struct{}) { offer(ch, struct{}{}) }

// run works until ctx ends.
func (l *policyLoop) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.rouse()
	for {
		var call policyCall
		select {
		case <-ctx.Done():
			l.save(time.Now())
			return nil
		case <-l.queues.look:
			l.lookAround()
		case <-l.queues.kick:
			call.in = policy.Own{Endpoints: l.n.endpoints()}
		case call = <-l.queues.in:
		case <-timer.C:
			call.in = policy.Tick{}
		}
		if call.in != nil {
			l.step(call.in)
		}
		l.chores(time.Now())
		if call.reply != nil {
			call.reply <- l.answer(call)
		}
		timer.Reset(l.wait(time.Now()))
	}
}

// wait is how long nothing is to be done.
func (l *policyLoop) wait(now time.Time) time.Duration {
	wait := idleTick
	for _, t := range []time.Time{l.core.Deadline(), l.due.save, l.due.retry, l.due.count} {
		if !t.IsZero() {
			wait = min(wait, max(t.Sub(now), 0))
		}
	}
	return wait
}

// chores are what is due by the clock.
func (l *policyLoop) chores(now time.Time) {
	if !l.due.save.IsZero() && now.After(l.due.save) {
		l.save(now)
	}
	if !l.due.retry.IsZero() && now.After(l.due.retry) {
		l.adopt()
	}
	if l.doc != nil && now.After(l.due.count) {
		l.show()
	}
}

// step feeds the core and performs its effects: durable before visible.
func (l *policyLoop) step(in policy.Input) {
	fx := l.core.Step(time.Now(), in)
	if fx.Save != nil {
		if err := l.keep(*fx.Save); err != nil {
			l.log.Warn("the policy could not be saved", "err", err)
		}
		l.adopt()
	}
	l.changed(fx.Changes)
	for _, s := range fx.Send {
		select {
		case l.n.mesh.in <- peer.Tell{Channel: peer.ChannelPolicy, To: s.To, Data: s.Data}:
		default: // the mesh is far behind
			l.queues.dropped.Add(1)
		}
	}
}

func (l *policyLoop) keep(d policy.Document) error {
	text, err := json.Marshal(savedPolicy{d})
	if err != nil {
		return err
	}
	return l.n.store.Put(keyPolicy, text)
}

// save writes down the endpoints of others, so that a start of this daemon cuts
// nobody off while it has not heard of them yet.
func (l *policyLoop) save(time.Time) {
	l.due.save = time.Time{}
	if l.doc == nil {
		return
	}
	var saves []store.Save
	for name := range l.dirty {
		s := store.Save{Key: policyOrigin + name.String()}
		if list := l.core.Endpoints(name); len(list) > 0 {
			s.Value, _ = json.Marshal(savedOrigin{l.nicks[name], list}) // plain data
		}
		saves = append(saves, s)
	}
	if err := l.n.store.Update(saves); err != nil {
		l.log.Warn("endpoints of other hosts could not be saved", "err", err)
		return
	}
	clear(l.dirty)
}

// lookAround follows the mesh: who can be reached, and who is called what.
func (l *policyLoop) lookAround() {
	v := l.n.mesh.view.Load()
	if v == nil {
		return
	}
	now := make(map[peer.Name]uint64, len(v.Peers))
	var renamed []policy.Change
	for _, p := range v.Peers {
		now[p.Name] = p.UID
		if l.nicks[p.Name] == p.Nickname {
			continue
		}
		l.nicks[p.Name] = p.Nickname
		for k, e := range l.ends {
			if k.origin == p.Name {
				renamed = append(renamed, policy.Change{Origin: k.origin, Endpoint: e})
			}
		}
	}
	l.changed(renamed)
	if !maps.Equal(now, l.told) {
		l.told = now
		l.step(policy.Reachable{Peers: now})
	}
}
