package node

import "github.com/prometheus/client_golang/prometheus"

var (
	descPolicyVersion = prometheus.NewDesc("weave_policy_version", "Version of the policy of the network.", nil, nil)
	descPolicyPackets = prometheus.NewDesc("weave_policy_packets_total",
		"Packets that the policy decided about on this host; of an allowed flow the first one.", []string{"rule"}, nil)
	descPolicyBytes = prometheus.NewDesc("weave_policy_bytes_total", "Bytes of these packets.", []string{"rule"}, nil)
	descSpoofed     = prometheus.NewDesc("weave_spoofed_total", "Frames of containers dropped because they had addresses of others.", nil, nil)
)

// policyMetrics shows the policy to Prometheus.
type policyMetrics struct{ n *node }

// Describe implements prometheus.Collector.
func (m policyMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descPolicyVersion, descPolicyPackets, descPolicyBytes, descSpoofed} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Counters are as the loop read them last.
func (m policyMetrics) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descSpoofed, prometheus.CounterValue, float64(m.n.spoofed()))
	s := m.n.policy.shown.Load()
	if s == nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(descPolicyVersion, prometheus.GaugeValue, float64(s.Version))
	seen := map[string]bool{} // two rules may have the same text, and one counter
	show := func(text string, packets, bytes uint64) {
		if !seen[text] {
			seen[text] = true
			ch <- prometheus.MustNewConstMetric(descPolicyPackets, prometheus.CounterValue, float64(packets), text)
			ch <- prometheus.MustNewConstMetric(descPolicyBytes, prometheus.CounterValue, float64(bytes), text)
		}
	}
	for _, r := range s.Rules {
		show(r.Text, r.Packets, r.Bytes)
	}
	for _, c := range s.Other {
		show(c.Text, c.Packets, c.Bytes)
	}
}

// spoofed counts frames of containers that called themselves something else.
func (n *node) spoofed() uint64 {
	count := n.dp.counters.drops[dropSpoofed].n.Load()
	if n.bridge != nil {
		count += n.bridge.Spoofed()
	}
	return count
}
