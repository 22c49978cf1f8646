package peer

import (
	"time"

	"weave/peer/wire"
)

// What one neighbour may make us do is counted in units of about ten
// microseconds; a signature costs five. A neighbour that spends more is not
// heard until it has saved again: the message is dropped and counted, and what
// was lost with it comes by the next comparison. Records that we asked for are
// free, so that a newcomer can be told of a large network at once.
const (
	workRate  = 2000 // per second
	workBurst = 40000

	costMessage = 1
	costRecord  = 5
	costBad     = 50
	costPart    = 50 // a Part or Summary makes us list our records
	perListed   = 4  // names read, or a record looked up and sent, for one unit

	// versionRate is how many versions of one peer's record are looked at, each
	// second. An honest peer publishes at most four in a sparse network.
	versionRate  = 5
	versionBurst = 40
)

// bucket is a token bucket.
type bucket struct {
	level float64
	at    time.Time
}

// take spends n if that much is left. The level grows by rate per second up to
// burst.
func (b *bucket) take(now time.Time, n, rate, burst float64) bool {
	if now.After(b.at) {
		b.level = min(burst, b.level+rate*now.Sub(b.at).Seconds())
		b.at = now
	}
	if b.level < n {
		return false
	}
	b.level -= n
	return true
}

// charge makes a neighbour pay for work; false means that the work must not be
// done.
func (m *Mesh) charge(c *conn, cost float64) bool {
	if c.flow.work.take(m.now, cost, workRate, workBurst) {
		return true
	}
	m.counters.Throttled++
	m.trouble(c, "floods us with gossip")
	return false
}

// affordable charges for a message by what is known of it before it is read.
func (m *Mesh) affordable(c *conn, msg *wire.Control) bool {
	cost, listed := costMessage, 0
	switch k := msg.GetKind().(type) {
	case *wire.Control_Digest:
		listed = len(k.Digest.GetEntries())
	case *wire.Control_Want:
		listed = len(k.Want.GetNames())
	case *wire.Control_Part:
		listed, cost = len(k.Part.GetEntries()), costPart
	case *wire.Control_Announce:
		listed = len(k.Announce.GetEntries())
	case *wire.Control_Graft:
		listed = len(k.Graft.GetNames())
	case *wire.Control_Summary:
		cost = costPart
	case *wire.Control_Tell:
		cost = costLetter + len(k.Tell.GetLetter())/perBytes
	}
	if listed > maxListed {
		m.counters.TooMany++
		m.trouble(c, "sends lists that are too long")
		return false
	}
	return m.charge(c, float64(cost+listed/perListed))
}

func (m *Mesh) badMessage(c *conn) {
	m.counters.BadMessages++
	m.charge(c, costBad)
	m.trouble(c, "sends messages we do not know")
}

func (m *Mesh) badRecord(c *conn, err error) {
	m.countBad(err)
	m.charge(c, costBad)
	m.trouble(c, "sends records that are not accepted")
}

// trouble notes for users what a neighbour does wrong.
func (m *Mesh) trouble(c *conn, what string) {
	if c.flow.trouble == what {
		return
	}
	c.flow.trouble = what
	m.event(LevelWarn, c.label()+": "+what)
	m.stale = true
}

// refusals counts the records that were not accepted for what they are.
func (c *Counters) refusals() uint64 {
	return c.BadRecords + c.BadSignatures + c.BadKeys + c.KeyConflicts + c.TooMany
}
