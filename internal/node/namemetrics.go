package node

import "github.com/prometheus/client_golang/prometheus"

var (
	descNames       = prometheus.NewDesc("weave_dns_entries", "Number of DNS entries.", nil, nil)
	descAllNames    = prometheus.NewDesc("weave_dns_known_entries", "Number of DNS entries of all peers.", nil, nil)
	descNameQueries = prometheus.NewDesc("weave_dns_queries_total", "DNS queries, by what became of them.", []string{"result"}, nil)
	descNameDropped = prometheus.NewDesc("weave_dns_dropped_total", "Messages between catalogues of names let go.", []string{"reason"}, nil)
)

// nameMetrics shows names to Prometheus.
type nameMetrics struct{ l *namesLoop }

// Describe implements prometheus.Collector.
func (m nameMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descNames, descAllNames, descNameQueries, descNameDropped} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m nameMetrics) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label)
	}
	if v := m.l.view.Load(); v != nil {
		ch <- prometheus.MustNewConstMetric(descNames, prometheus.GaugeValue, float64(v.Own))
		count(descNameDropped, v.Counters.Bad, "malformed")
		count(descNameDropped, v.Counters.Stale, "stale")
	}
	count(descNameDropped, m.l.dropped.Load(), "queue_full")
	ch <- prometheus.MustNewConstMetric(descAllNames, prometheus.GaugeValue, float64(m.l.index.Len()))
	s := m.l.server.Stats()
	count(descNameQueries, s.Queries-s.Foreign, "local")
	count(descNameQueries, s.Foreign-s.Cached-s.Joined-s.Refused, "forwarded")
	count(descNameQueries, s.Joined, "joined")
	count(descNameQueries, s.Cached, "cached")
	count(descNameQueries, s.Malformed, "malformed")
	count(descNameQueries, s.Limited, "limited")
	count(descNameQueries, s.Dropped, "dropped")
}
