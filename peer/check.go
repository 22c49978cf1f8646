package peer

import (
	"errors"
	"fmt"
)

// Check verifies the invariants of the Mesh; an error is a bug of this
// package, whatever the input was.
func (m *Mesh) Check() error {
	return errors.Join(m.checkRecords(), m.checkConns(), m.checkAttempts(), m.checkOverlay())
}

func (m *Mesh) checkRecords() error {
	own, ok := m.topo.crdt.Get(m.cfg.Name)
	if m.own.signed.bytes != nil && (!ok || own.Compare(m.own.signed) != 0) {
		return errors.New("own record in the topology is not the one published")
	}
	if m.own.version > m.own.reserved {
		return fmt.Errorf("own version %d above the saved %d", m.own.version, m.own.reserved)
	}
	for n, s := range m.topo.crdt.records {
		if !s.verified || s.Record.Name != n {
			return fmt.Errorf("record of %s not verified or under a wrong name", n)
		}
		if m.topo.pins[n] != s.Record.Key {
			return fmt.Errorf("record of %s with a key that is not pinned", n)
		}
	}
	if m.topo.crdt.Len() > maxPeers+1 || len(m.topo.pins) > maxPins+1 {
		return errors.New("more records or pins than allowed")
	}
	return nil
}

func (m *Mesh) checkConns() error {
	joined := 0
	for id, c := range m.conns.byID {
		if c.id != id {
			return fmt.Errorf("connection %d under id %d", c.id, id)
		}
		if !c.joined {
			continue
		}
		joined++
		if m.conns.byPeer[c.peer] != c {
			return fmt.Errorf("joined connection %d is not its peer's", id)
		}
		if c.peer == m.cfg.Name || c.static != c.record.x25519 {
			return fmt.Errorf("connection %d joined under a wrong name or key", id)
		}
		if held := m.topo.crdt.get(c.peer); held != nil && held.Record.UID == c.uid && held.x25519 == c.static && held != c.record {
			return fmt.Errorf("connection %d keeps a record beside the one held", id)
		}
	}
	if joined != len(m.conns.byPeer) {
		return fmt.Errorf("%d peers for %d joined connections", len(m.conns.byPeer), joined)
	}
	if m.cfg.ConnLimit > 0 && joined > m.cfg.ConnLimit {
		return fmt.Errorf("%d connections, the limit is %d", joined, m.cfg.ConnLimit)
	}
	return nil
}

func (m *Mesh) checkAttempts() error {
	for addr, a := range m.maker.attempts {
		c := m.conns.byID[a.conn]
		switch {
		case a.state == attemptConnected && (c == nil || c.dialled != addr):
			return fmt.Errorf("attempt at %s claims a connection that is not its own", addr)
		case a.state != attemptConnected && a.conn != 0:
			return fmt.Errorf("attempt at %s keeps a connection", addr)
		}
	}
	return nil
}

func (m *Mesh) checkOverlay() error {
	o := &m.overlay
	if len(o.chosen) > 2*ringSide+shortcuts {
		return fmt.Errorf("%d peers chosen", len(o.chosen))
	}
	if !o.sparse && len(o.chosen) > 0 {
		return errors.New("peers chosen in a small network")
	}
	for n := range o.chosen {
		if n == m.cfg.Name {
			return errors.New("chose ourselves")
		}
	}
	for _, c := range m.conns.byPeer {
		if c.flow.work.level > workBurst {
			return fmt.Errorf("%s may make us work for %f", c.peer, c.flow.work.level)
		}
		if len(c.flow.pending) > 0 && !c.flow.lazy && !m.gossip.waiting || len(c.flow.pending) > 0 && c.flow.lazy && m.gossip.announceAt.IsZero() {
			return fmt.Errorf("news for %s that nobody will send", c.peer)
		}
	}
	if len(m.gossip.missing) > maxListed || len(m.gossip.asked) > maxListed {
		return errors.New("more is missing than may be")
	}
	return nil
}
