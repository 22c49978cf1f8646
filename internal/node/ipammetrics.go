package node

import "github.com/prometheus/client_golang/prometheus"

var (
	descIPs = prometheus.NewDesc("weave_ips", "Number of IP addresses.", []string{"state"}, nil)
	descMax = prometheus.NewDesc("weave_max_ips", "Size of the address range.", nil, nil)

	descUnreachable = prometheus.NewDesc("weave_ipam_unreachable_count",
		"Number of owners of addresses that cannot be reached.", nil, nil)
	descUnreachableShare = prometheus.NewDesc("weave_ipam_unreachable_percentage",
		"Percentage of the range that peers own which cannot be reached.", nil, nil)
	descPendingAllocates = prometheus.NewDesc("weave_ipam_pending_allocates", "Allocations that wait.", nil, nil)
	descPendingClaims    = prometheus.NewDesc("weave_ipam_pending_claims", "Claims that wait.", nil, nil)
	descStrays           = prometheus.NewDesc("weave_ipam_strays", "Addresses in use here that belong to other peers.", nil, nil)
	descDisagreements    = prometheus.NewDesc("weave_ipam_disagreements", "Peers with another range or another ring.", nil, nil)
	descIPAMDropped      = prometheus.NewDesc("weave_ipam_dropped_total", "Messages between allocators let go.", []string{"reason"}, nil)
)

// addressMetrics shows the allocator to Prometheus, from its view.
type addressMetrics struct{ l *ipamLoop }

// Describe implements prometheus.Collector.
func (m addressMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descIPs, descMax, descUnreachable, descUnreachableShare, descPendingAllocates, descPendingClaims, descStrays,
		descDisagreements, descIPAMDropped,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m addressMetrics) Collect(ch chan<- prometheus.Metric) {
	v := m.l.view.Load()
	if v == nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	size := float64(uint64(1) << (32 - v.Range.Bits()))
	away, lost := map[string]bool{}, 0.0
	for _, s := range v.Segments {
		if !s.Near {
			away[s.Owner.String()] = true
			lost += float64(s.Size)
		}
	}
	claims := 0
	allocates := 0
	for _, p := range v.Pending {
		switch {
		case p.Claim:
			claims++
		case p.CIDR.IsValid():
			allocates++
		}
	}
	gauge(descIPs, float64(v.LocalUsed), "local-used")
	gauge(descMax, size)
	gauge(descUnreachable, float64(len(away)))
	gauge(descUnreachableShare, 100*lost/size)
	gauge(descPendingAllocates, float64(allocates))
	gauge(descPendingClaims, float64(claims))
	gauge(descStrays, float64(len(v.Strays)))
	gauge(descDisagreements, float64(len(v.Faults)))
	for reason, n := range map[string]uint64{"queue_full": m.l.dropped.Load(), "malformed": v.Counters.BadMessages} {
		ch <- prometheus.MustNewConstMetric(descIPAMDropped, prometheus.CounterValue, float64(n), reason)
	}
}
