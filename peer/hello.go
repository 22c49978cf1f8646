package peer

import (
	"fmt"

	"weave/peer/wire"
)

// Texts users know.
const (
	textOurself = "cannot connect to ourself"
	textNoKey   = "the record in its hello is not of the key its connection was made with"
)

func (m *Mesh) hello(c *conn) *wire.Control {
	return &wire.Control{Kind: &wire.Control_Hello{Hello: &wire.Hello{
		MinVersion: MinProtocol, MaxVersion: MaxProtocol,
		Record: m.own.signed.Wire(), Tiebreak: c.tiebreak,
	}}}
}

func goodbye(reason string) *wire.Control {
	return &wire.Control{Kind: &wire.Control_Goodbye{Goodbye: &wire.Goodbye{Reason: reason}}}
}

// verdict is what a Hello leads to.
type verdict struct {
	refuse string // "" = accepted
	never  bool   // do not dial this address again by itself
}

// greet handles the first message on a connection.
func (m *Mesh) greet(c *conn, h *wire.Hello) {
	s, v := m.judge(c, h)
	if v.refuse == "" {
		v = m.settleDuplicate(c, s)
	}
	if v.refuse == "" && m.cfg.ConnLimit > 0 && len(m.conns.byPeer) >= m.cfg.ConnLimit {
		v.refuse = fmt.Sprintf("Connection limit reached (%d)", m.cfg.ConnLimit)
	}
	if v.refuse != "" {
		m.counters.Refused++
		if v.never {
			m.maker.never(c)
		}
		m.event(LevelInfo, c.label()+": connection shutting down due to error: "+v.refuse)
		m.closeConn(c, v.refuse)
		return
	}
	m.join(c, s)
}

// judge verifies a Hello by itself, without looking at other connections.
func (m *Mesh) judge(c *conn, h *wire.Hello) (*Signed, verdict) {
	if h.GetMinVersion() > MaxProtocol || h.GetMaxVersion() < MinProtocol {
		return nil, verdict{refuse: fmt.Sprintf("incompatible protocol versions (ours %d..%d, theirs %d..%d)",
			MinProtocol, MaxProtocol, h.GetMinVersion(), h.GetMaxVersion())}
	}
	s, err := m.cfg.Opened.parse(h.GetRecord())
	if err == nil {
		err = m.verify(s)
	}
	if err != nil {
		m.countBad(err)
		return s, verdict{refuse: "hello: " + err.Error()}
	}
	if s.x25519 != c.static {
		return s, verdict{refuse: textNoKey}
	}
	r := &s.Record
	if r.Key == m.cfg.Identity.PublicKey() && r.UID == m.cfg.UID {
		return s, verdict{refuse: textOurself, never: true}
	}
	if r.Name == m.cfg.Name {
		return s, verdict{never: true, refuse: fmt.Sprintf("local %q and remote %q peer names collision",
			Label(m.cfg.Name, m.cfg.Nickname), Label(r.Name, r.Nickname))}
	}
	if r.Key == m.cfg.Identity.PublicKey() {
		return s, verdict{never: true, refuse: "peer " + Label(r.Name, r.Nickname) + " has a copy of our key"}
	}
	if !m.pin(*r) {
		return s, verdict{refuse: pinText(*r)}
	}
	return s, verdict{}
}

// settleDuplicate decides which connection survives when there is one with
// this peer already. Both ends come to the same decision.
func (m *Mesh) settleDuplicate(c *conn, s *Signed) verdict {
	old := m.conns.byPeer[s.Record.Name]
	if old == nil {
		return verdict{}
	}
	text := fmt.Sprintf("Multiple connections to %s added to %s",
		Label(s.Record.Name, s.Record.Nickname), Label(m.cfg.Name, m.cfg.Nickname))
	restarted := old.uid != s.Record.UID
	stale := m.now.Sub(old.joinedAt) >= replaceAge
	if restarted || stale || c.sum < old.sum {
		if restarted {
			text = "peer " + Label(s.Record.Name, s.Record.Nickname) + " restarted"
		}
		m.closeConn(old, text)
		return verdict{}
	}
	m.maker.reached(c, s.Record.Name)
	return verdict{refuse: text}
}

// join makes the connection part of the mesh.
func (m *Mesh) join(c *conn, s *Signed) {
	c.joined, c.joinedAt = true, m.now
	c.peer, c.uid, c.record = s.Record.Name, s.Record.UID, s
	c.standing, c.flow = newStanding(), newFlow(m.now)
	m.conns.byPeer[c.peer] = c
	m.maker.reached(c, c.peer)
	m.maker.remember(m, c)
	m.event(LevelInfo, c.label()+": connection added")
	if m.admit(s) {
		m.gossip.spread(m, s, c.id)
	}
	m.share(c)
	m.ownGained()
	m.topo.touchRemote(m.now)
	m.stale = true
	m.compare(c)
}
