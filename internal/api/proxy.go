package api

import (
	"context"
	"net/http"
	"strings"
)

// Proxies tells of the Docker API proxy.
type Proxies interface {
	// ProxyAddresses are its endpoints, the one for users first.
	ProxyAddresses() []string
}

// Proxy describes the Docker API proxy.
type Proxy struct {
	Addresses []string
}

func (s *Server) addProxyRoutes(mux *http.ServeMux) {
	b := s.backends.Proxies
	if b == nil {
		return
	}
	mux.HandleFunc("GET /proxyaddrs", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, strings.Join(b.ProxyAddresses(), "\n")+"\n")
	})
}

func renderProxy(line func(label, value string), p *Proxy) {
	line("Service", "proxy")
	line("Address", list(p.Addresses))
}

// ProxyAddresses fetches the proxy's endpoints.
func (c *Client) ProxyAddresses(ctx context.Context) ([]string, error) {
	text, err := c.do(ctx, http.MethodGet, "/proxyaddrs", nil, "")
	return strings.Fields(text), err
}
