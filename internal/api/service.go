package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// PortServices leads ports of the host to others: out of the network (import) or into it (export).
type PortServices interface {
	// AddService has warnings for targets that cannot be reached now.
	AddService(ctx context.Context, s PortService) (warnings []string, err error)
	// BindService gives a service other targets. What is connected stays connected.
	BindService(ctx context.Context, s PortService) (warnings []string, err error)
	RemoveService(ctx context.Context, id ServiceID) error
	ListServices() []ServiceTarget
}

// ServiceID names a service of this host.
type ServiceID struct {
	Proto string     // "tcp" or "udp"
	Name  string     // of an import; "" for an export
	Addr  netip.Addr // of an export: where the host listens; invalid: at all its addresses
	Port  uint16     // of an import: 0 where the targets' is meant
}

// String is the service as users write it.
func (id ServiceID) String() string {
	text := strconv.Itoa(int(id.Port))
	switch {
	case id.Name != "" && id.Port == 0:
		text = id.Name
	case id.Name != "":
		text = id.Name + ":" + text
	case id.Addr.IsValid():
		text = netip.AddrPortFrom(id.Addr, id.Port).String()
	}
	if id.Proto == "udp" {
		text += "/udp"
	}
	return text
}

// PortService is a service with where it leads: HOST:PORT, each a name, a container or an address.
type PortService struct {
	ServiceID
	Targets []string // at least one
}

// ServiceTarget is a service and one address that it leads to, as list and report show it.
type ServiceTarget struct {
	Kind    string // "export" or "import"
	Proto   string
	At      string // the service as users write it, without the protocol
	Target  string // as the user wrote it
	Address string // "" if it has none now
	State   string // "up", "down", or "unknown" where it cannot be told
}

// ParseServiceID reads [ADDRESS:]PORT[/udp], an export, or NAME[:PORT][/udp], an import.
func ParseServiceID(text string) (ServiceID, error) {
	invalid := BadRequest("invalid service " + strconv.Quote(text) + ", should be [ADDRESS:]PORT[/udp] or NAME[:PORT][/udp]")
	rest, proto, given := strings.Cut(text, "/")
	id := ServiceID{Proto: proto}
	if !given {
		id.Proto = "tcp"
	}
	if id.Proto != "tcp" && id.Proto != "udp" {
		return id, invalid
	}
	if port, err := strconv.ParseUint(rest, 10, 16); err == nil && port > 0 {
		id.Port = uint16(port)
		return id, nil
	}
	if at, err := netip.ParseAddrPort(rest); err == nil {
		if id.Addr, id.Port = at.Addr().Unmap(), at.Port(); id.Port == 0 || id.Addr.IsMulticast() || id.Addr.Zone() != "" {
			return id, invalid
		}
		return id, nil
	}
	name, text, given := strings.Cut(rest, ":")
	if given {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return id, invalid
		}
		id.Port = uint16(port)
	}
	if _, isAddress := parseIP(name); isAddress || !validHost(name) || strings.Trim(name, "0123456789") == "" {
		return id, invalid
	}
	id.Name = name
	return id, nil
}

// CheckServiceTarget refuses what is no HOST:PORT.
func CheckServiceTarget(text string) error {
	host, port, err := net.SplitHostPort(text)
	if n, numErr := strconv.ParseUint(port, 10, 16); err != nil || numErr != nil || n == 0 || !validHost(host) {
		return BadRequest("invalid target " + strconv.Quote(text) + ", should be CONTAINER:PORT, NAME:PORT or ADDRESS:PORT")
	}
	return nil
}

func parsePortService(form url.Values) (PortService, error) {
	id, err := ParseServiceID(form.Get("service"))
	if err != nil {
		return PortService{}, err
	}
	targets := form["target"]
	for i, text := range targets {
		if err := CheckServiceTarget(text); err != nil {
			return PortService{}, err
		}
		if slices.Contains(targets[:i], text) {
			return PortService{}, BadRequest("target " + text + " is given twice")
		}
	}
	if len(targets) == 0 {
		return PortService{}, BadRequest("error: must supply a target parameter")
	}
	return PortService{ServiceID: id, Targets: targets}, nil
}

func (s *Server) addServiceRoutes(mux *http.ServeMux) {
	b := s.backends.Services
	if b == nil {
		return
	}
	change := func(act func(context.Context, PortService) ([]string, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			req, err := parsePortService(r.Form)
			var warnings []string
			if err == nil {
				warnings, err = act(r.Context(), req)
			}
			if err != nil {
				fail(w, err)
				return
			}
			warn(w, warnings)
			noContent(w, r)
		}
	}
	mux.HandleFunc("POST /service", change(b.AddService))
	mux.HandleFunc("PUT /service", change(b.BindService))
	mux.HandleFunc("DELETE /service", func(w http.ResponseWriter, r *http.Request) {
		id, err := ParseServiceID(r.Form.Get("service"))
		if err == nil {
			err = b.RemoveService(r.Context(), id)
		}
		if err != nil {
			fail(w, err)
			return
		}
		noContent(w, r)
	})
	mux.HandleFunc("GET /service", func(w http.ResponseWriter, _ *http.Request) { writeText(w, RenderServices(b.ListServices())) })
}

// RenderServices makes the text of `weave service list`: kind, protocol, service, target, address, state.
func RenderServices(list []ServiceTarget) string {
	var b strings.Builder
	for _, t := range list {
		address := t.Address
		if address == "" {
			address = "-"
		}
		fmt.Fprintf(&b, "%s %s %s %s %s %s\n", t.Kind, t.Proto, t.At, t.Target, address, t.State)
	}
	return b.String()
}

// Services fetches the text of service list.
func (c *Client) Services(ctx context.Context) (string, error) {
	return c.do(ctx, http.MethodGet, "/service", nil, "")
}

// AddService leads a port; service and targets are in the notation of the command line.
func (c *Client) AddService(ctx context.Context, service string, targets []string) error {
	_, err := c.post(ctx, "/service", url.Values{"service": {service}, "target": targets})
	return err
}

// BindService gives a service other targets.
func (c *Client) BindService(ctx context.Context, service string, targets []string) error {
	_, err := c.do(ctx, http.MethodPut, "/service", url.Values{"service": {service}, "target": targets}, "")
	return err
}

// RemoveService ends a service.
func (c *Client) RemoveService(ctx context.Context, service string) error {
	_, err := c.do(ctx, http.MethodDelete, "/service", url.Values{"service": {service}}, "")
	return err
}
