package node

import "github.com/prometheus/client_golang/prometheus"

var descServiceTarget = prometheus.NewDesc("weave_service_target_up",
	"Whether a target of a service took a connection when it was tried last; where that cannot be told there is no value.",
	[]string{"kind", "protocol", "service", "target", "address"}, nil)

// serviceMetrics shows the health of services' targets to Prometheus.
type serviceMetrics struct{ n *node }

// Describe implements prometheus.Collector.
func (m serviceMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- descServiceTarget }

// Collect implements prometheus.Collector. A target without an address is down.
func (m serviceMetrics) Collect(ch chan<- prometheus.Metric) {
	type key struct{ proto, at, target, address string }
	seen := map[key]bool{} // two names of one target may have the same address
	for _, t := range m.n.services.ListServices() {
		k := key{t.Proto, t.At, t.Target, t.Address}
		if t.State == stateUnsure || seen[k] {
			continue
		}
		seen[k] = true
		value := 0.0
		if t.State == stateUp {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(descServiceTarget, prometheus.GaugeValue, value, t.Kind, t.Proto, t.At, t.Target, t.Address)
	}
}
