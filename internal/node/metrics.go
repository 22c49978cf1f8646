package node

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"weave/peer/session"
	"weave/peer/wire"
	"weave/stack"
)

var (
	descConnections = prometheus.NewDesc("weave_connections",
		"Number of peer-to-peer connections.", []string{"state", "type", "encryption"}, nil)
	descTerminations = prometheus.NewDesc("weave_connection_terminations_total",
		"Number of peer-to-peer connections terminated.", nil, nil)
	descDropped = prometheus.NewDesc("weave_dropped_total",
		"Frames, datagrams and messages let go.", []string{"reason"}, nil)
	descLongFrames = prometheus.NewDesc("weave_long_frames_total",
		"Packets of TCP longer than 64 KB that containers were given, of several super-frames.", nil, nil)
	descMACs      = prometheus.NewDesc("weave_macs", "MAC addresses learnt.", nil, nil)
	descPeerBytes = prometheus.NewDesc("weave_peer_bytes_total",
		"Bytes of Ethernet frames exchanged with a peer.", []string{"peer", "direction"}, nil)
	descPeerFrames = prometheus.NewDesc("weave_peer_frames_total",
		"Ethernet frames exchanged with a peer; a super-frame counts as one.", []string{"peer", "direction"}, nil)
)

// metrics shows a node to Prometheus. It reads snapshots and atomics only.
type metrics struct{ n *node }

func (n *node) metricsHandler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(metrics{n}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(policyMetrics{n})
	r.MustRegister(serviceMetrics{n})
	if n.ipam != nil {
		r.MustRegister(addressMetrics{n.ipam})
	}
	if n.names != nil {
		r.MustRegister(nameMetrics{n.names})
	}
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector.
func (m metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descConnections, descTerminations, descDropped, descLongFrames, descMACs, descPeerBytes, descPeerFrames,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m metrics) Collect(ch chan<- prometheus.Metric) {
	m.connections(ch)
	m.drops(ch)
	if long := m.n.dp.long; long != nil {
		ch <- prometheus.MustNewConstMetric(descLongFrames, prometheus.CounterValue, float64(long.sent.Load()))
	}
	ch <- prometheus.MustNewConstMetric(descMACs, prometheus.GaugeValue, float64(len(m.n.dp.sw.MACs())))
	for r := range m.n.dp.table.Load().remotes.all() {
		name := r.name.String()
		for direction, t := range map[string]*traffic{"sent": &r.sent, "received": &r.received} {
			ch <- prometheus.MustNewConstMetric(descPeerBytes, prometheus.CounterValue, float64(t.bytes.Load()), name, direction)
			ch <- prometheus.MustNewConstMetric(descPeerFrames, prometheus.CounterValue, float64(t.frames.Load()), name, direction)
		}
	}
}

// connections counts them by state, type and encryption; both values of
// encryption are there for each pair, as Weave Net had it.
func (m metrics) connections(ch chan<- prometheus.Metric) {
	v := m.n.mesh.view.Load()
	if v == nil {
		return
	}
	type key struct{ state, typ, encryption string }
	counts := map[key]float64{}
	for _, c := range v.Connections {
		k := key{state: string(c.State), typ: c.Attrs.Name}
		if k.typ == "" {
			k.typ = "unknown"
		}
		counts[key{k.state, k.typ, ""}] += 0
		counts[key{k.state, k.typ, "yes"}] += 0
		if m.n.cfg.password() && c.Attrs.Encrypted {
			k.encryption = "yes"
		}
		counts[k]++
	}
	for k, n := range counts {
		ch <- prometheus.MustNewConstMetric(descConnections, prometheus.GaugeValue, n, k.state, k.typ, k.encryption)
	}
	ch <- prometheus.MustNewConstMetric(descTerminations, prometheus.CounterValue, float64(v.Counters.Terminations))
}

// control counts what the control plane refused.
func (m metrics) control(count func(reason string, n uint64)) {
	t := m.n.transport.Stats()
	count("control_garbage", t.Garbage)
	count("control_refused", t.Refused)
	count("control_malformed", t.Malformed)
	count("control_overflow", t.Overflows)
	count("control_write_timeout", t.WriteTimeouts)
	if v := m.n.mesh.view.Load(); v != nil {
		c := v.Counters
		count("gossip_bad_message", c.BadMessages)
		count("gossip_bad_record", c.BadRecords)
		count("gossip_bad_signature", c.BadSignatures+c.BadKeys)
		count("gossip_key_conflict", c.KeyConflicts)
		count("gossip_too_many", c.TooMany)
		count("gossip_throttled", c.Throttled)
		count("gossip_unknown_kind", c.UnknownKinds)
		count("gossip_links_untold", c.LinksUntold)
		count("letter_stale", c.LettersStale)
		count("letter_lost", c.LettersLost)
	}
}

func (m metrics) drops(ch chan<- prometheus.Metric) {
	count := func(reason string, n uint64) {
		ch <- prometheus.MustNewConstMetric(descDropped, prometheus.CounterValue, float64(n), reason)
	}
	c := &m.n.dp.counters
	for d := range dropCount {
		count(dropNames[d], c.drops[d].n.Load())
	}
	for f := range c.faults {
		if n := c.faults[f].Load(); n > 0 {
			count("packet_"+wire.Fault(f).String(), n)
		}
	}
	for r := range c.handshakes {
		if n := c.handshakes[r].Load(); n > 0 {
			count("handshake_"+session.DropReason(r).String(), n)
		}
	}
	tap := m.n.tapStats()
	count("tap_full", tap.DroppedFull)
	count("tap_down", tap.DroppedDown)
	count("tap_refused", tap.DroppedRefused)
	for i, family := range []string{"ipv4", "ipv6"} {
		var n uint64
		for _, pair := range m.n.dp.sockets {
			if s := pair[i]; s != nil {
				n += s.Stats().Truncated
			}
		}
		count("truncated_"+family, n)
	}
	m.control(count)
	for r, n := range m.n.dp.sw.Counters().Drops {
		if stack.DropReason(r) != stack.DropNone {
			count("switch_"+stack.DropReason(r).String(), n)
		}
	}
}
