package api

import (
	"slices"
	"strings"
	"testing"
)

// fakeProxies has endpoints.
type fakeProxies []string

func (f fakeProxies) ProxyAddresses() []string { return f }

func TestProxyAddresses(t *testing.T) {
	node := newFakeNode()
	want := fakeProxies{"tcp://0.0.0.0:12375", "unix:///run/weave/weave.sock"}
	c, _ := serve(t, node, Backends{Reporter: node, Lifecycle: node, Proxies: want})
	if got, err := c.ProxyAddresses(t.Context()); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	without, _, _ := serveAll(t)
	_, err := without.ProxyAddresses(t.Context())
	wantStatus(t, err, 404, "")
}

func TestRenderProxy(t *testing.T) {
	text := RenderStatus(Report{Proxy: &Proxy{Addresses: []string{"tcp://0.0.0.0:12375", "unix:///run/weave/weave.sock"}}})
	const want = "\n        Service: proxy\n        Address: tcp://0.0.0.0:12375, unix:///run/weave/weave.sock\n"
	if !strings.Contains(text, want) {
		t.Errorf("got\n%s", text)
	}
	if text := RenderStatus(Report{}); strings.Contains(text, "proxy") {
		t.Errorf("without a proxy\n%s", text)
	}
}
