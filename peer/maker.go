package peer

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	retryStart = 2 * time.Second
	retryMax   = 6 * time.Minute
	// knownTries is how often a remembered address may fail before it is
	// dropped from the address book.
	knownTries = 3
	maxBook    = 256
)

// attemptState is where an attempt stands.
//
//	waiting ──Dial──► dialling ──ConnUp──► connected
//	   ▲                 │ DialFailed          │ connection ends
//	   └─────────────────┴─────────────────────┘
type attemptState uint8

const (
	attemptWaiting attemptState = iota
	attemptDialling
	attemptConnected
)

// attempt is the dialling of one address, "host:port".
type attempt struct {
	state   attemptState
	conn    ConnID        // while connected
	peer    Name          // whom this address led to last
	backoff time.Duration // mean wait after the next failure
	next    time.Time     // not dialled before
	never   bool          // not dialled again unless the operator asks
	reason  string        // of the last failure; "" = none yet
	fails   int           // since it was last connected
	surplus bool          // the other end closed for want of need: not dialled while it is reachable
	// Why the address is dialled, set by each review:
	wanted   bool
	to       Name // a peer that tells this address; zero: an address alone
	explicit bool // a target
	portless bool // a target given without a port
}

// maker decides which addresses to dial and when.
type maker struct {
	port     uint16
	targets  []string // as typed
	attempts map[string]*attempt
	known    map[string]int // remembered addresses: failures so far
	book     []string       // addresses of peers we were connected with, newest last
	dirty    bool
	next     time.Time // when an attempt's wait ends
}

func newMaker(cfg Config) maker {
	k := maker{port: cfg.Port, attempts: make(map[string]*attempt), known: make(map[string]int), dirty: true}
	for _, a := range cfg.KnownAddresses {
		if addr, err := ParseTarget(a, cfg.Port); err == nil && len(k.book) < maxBook && !slices.Contains(k.book, addr) {
			k.book = append(k.book, addr)
			k.known[addr] = 0
		}
	}
	return k
}

// ParseTarget completes a target, host[:port], to "host:port". An IPv6 address
// needs brackets only when a port follows.
func ParseTarget(s string, defaultPort uint16) (string, error) {
	bad := fmt.Errorf("invalid peer name %q, should be host[:port]", s)
	if s == "" || len(s) > maxAddressLen || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", bad
	}
	port := strconv.Itoa(int(defaultPort))
	if a, err := netip.ParseAddr(unbracket(s)); err == nil {
		return net.JoinHostPort(a.String(), port), nil
	}
	if !strings.Contains(s, ":") {
		return net.JoinHostPort(s, port), nil
	}
	host, p, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return "", bad
	}
	if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
		return "", bad
	}
	return net.JoinHostPort(host, p), nil
}

func hasPort(target string) bool {
	if _, err := netip.ParseAddr(unbracket(target)); err == nil {
		return false
	}
	return strings.Contains(target, ":")
}

func unbracket(s string) string {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			return inner
		}
	}
	return s
}

func (k *maker) touch() { k.dirty = true }

func (k *maker) due(now time.Time) bool {
	return k.dirty || (!k.next.IsZero() && !now.Before(k.next))
}

func (k *maker) dueAt(now time.Time) time.Time {
	if k.dirty {
		return now
	}
	return k.next
}

func (m *Mesh) addTargets(in Connect) {
	k := &m.maker
	var fresh []string
	for _, t := range in.Targets {
		addr, err := ParseTarget(t, k.port)
		if err != nil {
			m.event(LevelWarn, err.Error())
			continue
		}
		if !slices.Contains(fresh, t) {
			fresh = append(fresh, t)
		}
		if a := k.attempts[addr]; a != nil {
			a.never, a.surplus, a.backoff, a.next = false, false, retryStart, time.Time{}
		}
	}
	old := k.targets
	if in.Replace {
		k.targets = fresh
	} else {
		for _, t := range fresh {
			if !slices.Contains(k.targets, t) {
				k.targets = append(slices.Clip(k.targets), t)
			}
		}
	}
	m.targetsChanged(old)
}

func (m *Mesh) forgetTargets(texts []string) {
	k := &m.maker
	old := k.targets
	k.targets = slices.DeleteFunc(slices.Clone(k.targets), func(t string) bool { return slices.Contains(texts, t) })
	m.targetsChanged(old)
}

func (m *Mesh) targetsChanged(old []string) {
	if !slices.Equal(old, m.maker.targets) {
		m.save(keyTargets, joinLines(m.maker.targets))
	}
	m.maker.touch()
	m.stale = true
}

func (m *Mesh) dialFailed(in DialFailed) {
	a := m.maker.attempts[in.Address]
	if a == nil || a.state != attemptDialling {
		return
	}
	m.maker.failed(m, in.Address, a, in.Reason)
	if a.fails == givenUp && m.overlay.sparse && !a.to.IsZero() {
		m.topo.touch(m.now, recomputeInterval) // choose another beside it
	}
}

// failed notes a failure and when to try again.
func (k *maker) failed(m *Mesh, address string, a *attempt, reason string) {
	a.state, a.conn, a.reason = attemptWaiting, 0, reason
	if a.backoff == 0 {
		a.backoff = retryStart
	}
	a.fails++
	jitter := 0.5 + m.rng.Float64()
	a.next = m.now.Add(time.Duration(float64(a.backoff) * jitter))
	a.backoff = min(a.backoff*3/2, retryMax)
	if fails, ok := k.known[address]; ok {
		k.known[address] = fails + 1
		if fails+1 >= knownTries {
			delete(k.known, address)
			k.book = slices.DeleteFunc(slices.Clone(k.book), func(s string) bool { return s == address })
			m.save(keyAddresses, joinLines(k.book))
		}
	}
	k.touch()
	m.stale = true
}

// up notes that a dialled address gave a connection.
func (k *maker) up(c *conn) {
	if a := k.attempts[c.dialled]; a != nil && c.dialled != "" {
		a.state, a.conn, a.fails, a.surplus = attemptConnected, c.id, 0, false
	}
	k.touch()
}

// reached notes whom a dialled address led to.
func (k *maker) reached(c *conn, n Name) {
	if a := k.attempts[c.dialled]; a != nil {
		a.peer = n
	}
	k.touch()
}

// never stops dialling the address of c.
func (k *maker) never(c *conn) {
	if a := k.attempts[c.dialled]; a != nil {
		a.never = true
		delete(k.known, c.dialled)
	}
}

// down notes the end of a connection.
func (k *maker) down(m *Mesh, c *conn, reason string, lasted time.Duration) {
	k.touch()
	a := k.attempts[c.dialled]
	if a == nil || a.conn != c.id || a.state != attemptConnected {
		return
	}
	k.failed(m, c.dialled, a, reason)
	if a.surplus = c.standing.surplus; a.surplus {
		a.backoff = retryStart
		return
	}
	if lasted > lastingAge {
		a.next, a.backoff = m.now, retryStart
	}
}

// remember puts the address at which a joined peer can be dialled into the
// address book, for the next start.
func (k *maker) remember(m *Mesh, c *conn) {
	addr := c.dialled
	if addr == "" {
		if c.record.Record.Port == 0 {
			return
		}
		addr = netip.AddrPortFrom(c.remote.Addr(), c.record.Record.Port).String()
	}
	delete(k.known, addr)
	if slices.Contains(k.book, addr) {
		return
	}
	k.book = append(slices.Clone(k.book), addr)
	if len(k.book) > maxBook {
		k.book = k.book[len(k.book)-maxBook:]
	}
	m.save(keyAddresses, joinLines(k.book))
}

func (k *maker) sortedAddresses() []string { return slices.Sorted(maps.Keys(k.attempts)) }
