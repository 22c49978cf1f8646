package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Extern is the id of names that belong to no container.
const Extern = "weave:extern"

// Names registers names. What is outside the domain is left out without a word.
type Names interface {
	AddName(ctx context.Context, req NameRequest) error
	// RemoveName removes all that matches; what the request does not say matches everything.
	RemoveName(ctx context.Context, req NameRequest) error
	// Lookup finds the IPv4 addresses of a name of the network's, where the host itself cannot ask the server: that one
	// listens on the overlay only. ok is false where it can.
	Lookup(ctx context.Context, name string) (addrs []netip.Addr, ok bool)
	// NameServer is the domain, and where it is served, as containers reach it.
	NameServer() (domain string, at netip.AddrPort)
}

// NameRequest says which names.
type NameRequest struct {
	Target   string // a container's id, or what attach takes; Extern, or "" = any
	Addrs    []netip.Addr
	Name     string // "" = the target's own, or any
	Services []ServiceSpec
}

// ServiceSpec is a port that is found by SRV queries.
type ServiceSpec struct {
	Name, Proto string
	Port        uint16
}

// DNS describes the names.
type DNS struct {
	Domain   string
	Upstream []string
	Address  string
	TTL      int // seconds
	Entries  []DNSEntry
}

// DNSEntry is a name with one address.
type DNSEntry struct {
	Hostname    string
	Origin      string // name of a peer
	ContainerID string
	Address     string
	Version     int
	Tombstone   int64 // when it was removed, seconds since 1970; 0 = it is there
}

func (s *Server) addNameRoutes(mux *http.ServeMux) {
	b := s.backends.Names
	if b == nil {
		return
	}
	mux.HandleFunc("GET /domain", func(w http.ResponseWriter, _ *http.Request) {
		domain, _ := b.NameServer()
		writeText(w, domain)
	})
	mux.HandleFunc("GET /dns-address", func(w http.ResponseWriter, _ *http.Request) {
		_, at := b.NameServer()
		writeText(w, at.Addr().String())
	})
	mux.HandleFunc("GET /dns-address-port", func(w http.ResponseWriter, _ *http.Request) {
		_, at := b.NameServer()
		writeText(w, at.String())
	})
	mux.HandleFunc("GET /lookup/{name}", func(w http.ResponseWriter, r *http.Request) {
		addrs, ok := b.Lookup(r.Context(), r.PathValue("name"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		for _, a := range addrs {
			_, _ = fmt.Fprintln(w, a)
		}
	})
	mux.HandleFunc("PUT /name", s.name(b.AddName))
	mux.HandleFunc("PUT /name/{container}/{ip}", s.name(b.AddName))
	for _, path := range []string{"", "/{container}", "/{container}/{ip}"} {
		mux.HandleFunc("DELETE /name"+path, s.name(b.RemoveName))
	}
	mux.HandleFunc("GET /name", s.nameList)
}

func (s *Server) name(act func(context.Context, NameRequest) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req, err := parseName(r)
		if err == nil {
			err = act(r.Context(), req)
		}
		if err != nil {
			fail(w, err)
			return
		}
		noContent(w, r)
	}
}

// parseName reads a request from its path, or from the parameters target, addr (several), fqdn and service (several,
// NAME/PROTO/PORT).
func parseName(r *http.Request) (NameRequest, error) {
	req := NameRequest{Target: r.PathValue("container"), Name: r.Form.Get("fqdn")}
	addrs := slices.Clone(r.Form["addr"])
	if ip := r.PathValue("ip"); ip != "" {
		addrs = append(addrs, ip)
	}
	if req.Target == "" {
		req.Target = r.Form.Get("target")
	}
	for _, text := range addrs {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return req, BadRequest("unable to parse ip addr: " + err.Error())
		}
		req.Addrs = append(req.Addrs, a)
	}
	for _, text := range r.Form["service"] {
		spec, err := ParseService(text)
		if err != nil {
			return req, err
		}
		req.Services = append(req.Services, spec)
	}
	return req, nil
}

// ParseService reads NAME/PROTO/PORT, or PROTO/PORT.
func ParseService(text string) (ServiceSpec, error) {
	parts := strings.Split(text, "/")
	if len(parts) == 2 {
		parts = append([]string{""}, parts...)
	}
	if len(parts) == 3 {
		if port, err := strconv.ParseUint(parts[2], 10, 16); err == nil && port > 0 {
			return ServiceSpec{Name: parts[0], Proto: parts[1], Port: uint16(port)}, nil
		}
	}
	return ServiceSpec{}, BadRequest("invalid service " + strconv.Quote(text) + ", should be [NAME/]PROTO/PORT such as http/tcp/80")
}

func (s *Server) nameList(w http.ResponseWriter, _ *http.Request) {
	entries := []DNSEntry{}
	if s.backends.Reporter != nil {
		if d := s.backends.Reporter.Report().DNS; d != nil {
			entries = append(entries, d.Entries...)
		}
	}
	text, err := json.Marshal(entries)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}

// renderNames is the section of status about names.
func renderNames(line func(label, value string), d *DNS) {
	alive := 0
	for _, e := range d.Entries {
		if e.Tombstone == 0 {
			alive++
		}
	}
	line("Service", "dns")
	line("Domain", d.Domain)
	line("Upstream", list(d.Upstream))
	line("TTL", fmt.Sprint(d.TTL))
	line("Entries", fmt.Sprint(alive))
	if d.Address != "" {
		line("Address", d.Address)
	}
}

// RenderNames makes the text of `weave status dns`: one line per entry, by name, without the domain.
func RenderNames(r Report) string {
	if r.DNS == nil {
		return ""
	}
	var b strings.Builder
	for _, e := range r.DNS.Entries {
		if e.Tombstone != 0 {
			continue
		}
		host := strings.TrimSuffix(e.Hostname, ".")
		if cut := len(host) + 1 - len(r.DNS.Domain); cut > 0 && strings.EqualFold(host[cut:]+".", r.DNS.Domain) {
			host = host[:cut-1]
		}
		fmt.Fprintf(&b, "%-12s %-15s %-12.12s %s\n", host, e.Address, e.ContainerID, e.Origin)
	}
	return b.String()
}

// NameServer fetches where names are served and the domain; empty if they are not.
func (c *Client) NameServer(ctx context.Context) (address, domain string, err error) {
	if address, err = c.do(ctx, http.MethodGet, "/dns-address-port", nil, ""); err != nil {
		return "", "", err
	}
	domain, err = c.do(ctx, http.MethodGet, "/domain", nil, "")
	return address, domain, err
}

// AddNames registers names; params are those of the request's form.
func (c *Client) AddNames(ctx context.Context, params map[string][]string) error {
	_, err := c.do(ctx, http.MethodPut, "/name", params, "")
	return err
}

// RemoveNames removes names.
func (c *Client) RemoveNames(ctx context.Context, params map[string][]string) error {
	_, err := c.do(ctx, http.MethodDelete, "/name", params, "")
	return err
}

// Lookup asks the daemon itself for a name's addresses, one a line; a StatusError of 404 says to ask its name server.
func (c *Client) Lookup(ctx context.Context, name string) (string, error) {
	return c.do(ctx, http.MethodGet, "/lookup/"+url.PathEscape(name), nil, "")
}
