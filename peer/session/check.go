package session

import "fmt"

// Check reports the first invariant that does not hold; for tests and simulation. No data message may be sealed or
// opened meanwhile.
func (m *Machine) Check() error {
	if m.closed {
		return m.checkClosed()
	}
	used := 0
	for _, p := range m.order {
		n, err := m.checkPeer(p)
		if err != nil {
			return fmt.Errorf("session: peer %x: %w", p.key[:4], err)
		}
		used += n
	}
	switch {
	case len(m.order) != len(m.peers):
		return fmt.Errorf("session: %d peers in order, %d by key", len(m.order), len(m.peers))
	case used != len(m.indexes):
		return fmt.Errorf("session: %d indexes in use, %d in the table", used, len(m.indexes))
	case len(m.limiter.buckets) > limiterBound:
		return fmt.Errorf("session: %d sources in the rate limiter", len(m.limiter.buckets))
	}
	return nil
}

func (m *Machine) checkClosed() error {
	if len(m.peers)+len(m.order)+len(m.indexes) != 0 {
		return fmt.Errorf("session: closed with %d peers and %d indexes", len(m.peers), len(m.indexes))
	}
	for _, b := range m.noise.static.Private {
		if b != 0 {
			return fmt.Errorf("session: closed with its private key")
		}
	}
	return nil
}

// checkPeer returns how many indexes the peer uses.
func (m *Machine) checkPeer(p *peer) (int, error) {
	used, a := 0, &p.attempt
	if m.peers[p.key] != p {
		return 0, fmt.Errorf("is not the one by its key")
	}
	if (a.began == 0) != (a.retry == 0) || (a.shake != nil && a.began == 0) {
		return 0, fmt.Errorf("attempt began %d, retries %d, has handshake %t", a.began, a.retry, a.shake != nil)
	}
	if a.shake != nil {
		used++
		if m.indexes[a.index] != p {
			return 0, fmt.Errorf("handshake index %08x is not its own", a.index)
		}
	}
	p.keys.mu.Lock()
	defer p.keys.mu.Unlock()
	current, next := p.keys.current.Load(), p.keys.next.Load()
	if current != nil && !current.Confirmed() {
		return 0, fmt.Errorf("current keypair %08x is not confirmed", current.id.local)
	}
	if next != nil && (next.id.initiator || next.Confirmed()) {
		return 0, fmt.Errorf("next keypair %08x is initiator's or confirmed", next.id.local)
	}
	for _, k := range append([]*Keypair{current, p.keys.prior.Load(), next}, p.keys.retired...) {
		if k == nil {
			continue
		}
		used++
		if err := m.checkKeypair(p, k); err != nil {
			return 0, fmt.Errorf("keypair %08x: %w", k.id.local, err)
		}
	}
	if used > 0 && (p.next == 0 || m.next == 0 || m.next > p.next) {
		return 0, fmt.Errorf("has %d indexes, is looked at %d, machine %d", used, p.next, m.next)
	}
	return used, nil
}

func (m *Machine) checkKeypair(p *peer, k *Keypair) error {
	switch {
	case m.indexes[k.id.local] != p:
		return fmt.Errorf("index is not its own")
	case k.id.peer != p.key:
		return fmt.Errorf("is another peer's")
	case k.sealing.users.Load() < 0:
		return fmt.Errorf("is installed but zeroed")
	case p.next > k.created+int64(m.limits.RejectAfterTime):
		return fmt.Errorf("outlives its time")
	}
	return nil
}
