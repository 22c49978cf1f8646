package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Exposer gives the host addresses on the network.
type Exposer interface {
	Expose(ctx context.Context, req ExposeRequest) (AttachReply, error)
	// Hide takes them away. It never allocates.
	Hide(ctx context.Context, req ExposeRequest) (AttachReply, error)
	HostPrograms
}

// HostPrograms serve programs of the host that want something on the network.
type HostPrograms interface {
	// HostProxy has them connect by SOCKS5 and HTTP at an address, ip:port; "" ends that.
	HostProxy(ctx context.Context, at string) (string, error)
	// Ping asks a name or address for an answer, once.
	Ping(ctx context.Context, host string) (netip.Addr, time.Duration, error)
	// Dial connects to a TCP port of a name or address. The caller closes the connection.
	Dial(ctx context.Context, host string, port uint16) (net.Conn, error)
}

// ExposeRequest says which addresses, and what for.
type ExposeRequest struct {
	Addresses         []AddressSpec // at least one
	Names             []string      // for DNS
	WithoutMasquerade bool
	Publish           []Publication
}

// Publication is a port that leads from one side of the host to the other.
type Publication struct {
	Network string         // "tcp" or "udp"
	Import  bool           // from the overlay to an address of the host's; else from the host to the overlay
	At      netip.AddrPort // where it listens
	Host    string         // the name or address it leads to
	Port    uint16
}

func (s *Server) addExposeRoutes(mux *http.ServeMux) {
	b := s.backends.Exposer
	if b == nil {
		return
	}
	mux.HandleFunc("POST /expose", placed(parseExpose, b.Expose))
	mux.HandleFunc("DELETE /expose", placed(parseExpose, b.Hide))
	s.addHostRoutes(mux, b)
	mux.HandleFunc("POST /expose/{ip}/{len}", s.exposeOne)
}

// exposeOne is what Weave Net's script asked for, after it had allocated the address.
func (s *Server) exposeOne(w http.ResponseWriter, r *http.Request) {
	spec, err := parseAddr(r.PathValue("ip") + "/" + r.PathValue("len"))
	if err != nil {
		fail(w, BadRequest("unable to parse ip addr: "+err.Error()))
		return
	}
	req := ExposeRequest{Addresses: []AddressSpec{spec}}
	if text := r.Form.Get("skipNAT"); text != "" {
		if req.WithoutMasquerade, err = strconv.ParseBool(text); err != nil {
			fail(w, BadRequest("error: skipNAT is true or false, not "+strconv.Quote(text)))
			return
		}
	}
	reply, err := s.backends.Exposer.Expose(r.Context(), req)
	if _, known := errors.AsType[*StatusError](err); err != nil && !known {
		err = fmt.Errorf("unable to expose: %w", err)
	}
	if err != nil {
		fail(w, err)
		return
	}
	warn(w, reply.Warnings)
	noContent(w, r)
}

func parseExpose(form url.Values) (ExposeRequest, error) {
	req := ExposeRequest{Names: form["fqdn"], WithoutMasquerade: form.Get("without-masquerade") == "true"}
	var err error
	if req.Addresses, err = ParseAddresses(form["addr"]); err != nil {
		return req, err
	}
	for _, text := range form["publish"] {
		p, err := ParsePublication(text, false)
		if err != nil {
			return req, BadRequest(err.Error())
		}
		req.Publish = append(req.Publish, p)
	}
	for _, text := range form["import"] {
		p, err := ParsePublication(text, true)
		if err != nil {
			return req, BadRequest(err.Error())
		}
		req.Publish = append(req.Publish, p)
	}
	return req, nil
}

// ParsePublication reads [ADDRESS:]PORT:HOST:PORT[/udp]; IPv6 addresses stand in brackets. Without an address a port is
// published on 127.0.0.1 and imported at the host's address on the overlay.
func ParsePublication(text string, imported bool) (Publication, error) {
	invalid := fmt.Errorf("invalid port %q, should be [ADDRESS:]PORT:HOST:PORT[/udp]", text)
	p := Publication{Network: "tcp", Import: imported}
	rest, network, ok := strings.Cut(text, "/")
	if ok {
		p.Network = network
	}
	if p.Network != "tcp" && p.Network != "udp" {
		return p, invalid
	}
	last := strings.LastIndexByte(rest, ':')
	if last < 0 {
		return p, invalid
	}
	port, err := strconv.ParseUint(rest[last+1:], 10, 16)
	if err != nil || port == 0 {
		return p, invalid
	}
	p.Port, rest = uint16(port), rest[:last]
	listen := ""
	if strings.HasSuffix(rest, "]") { // an IPv6 address as the host
		open := strings.LastIndex(rest, ":[")
		if open < 0 {
			return p, invalid
		}
		listen, p.Host = rest[:open], strings.Trim(rest[open+1:], "[]")
	} else {
		sep := strings.LastIndexByte(rest, ':')
		if sep < 0 {
			return p, invalid
		}
		listen, p.Host = rest[:sep], rest[sep+1:]
	}
	if !validHost(p.Host) {
		return p, invalid
	}
	if !strings.Contains(listen, ":") {
		listen = map[bool]string{false: "127.0.0.1:", true: "0.0.0.0:"}[imported] + listen
	}
	host, number, err := net.SplitHostPort(listen)
	if err != nil {
		return p, invalid
	}
	if p.At, err = netip.ParseAddrPort(net.JoinHostPort(host, number)); err != nil || p.At.Port() == 0 {
		return p, invalid
	}
	return p, nil
}

// Expose gives the host addresses; the form has addr, fqdn, without-masquerade, publish and import.
func (c *Client) Expose(ctx context.Context, form url.Values) (string, error) {
	return c.post(ctx, "/expose", form)
}

// Hide takes them away.
func (c *Client) Hide(ctx context.Context, form url.Values) (string, error) {
	return c.do(ctx, http.MethodDelete, "/expose", form, "")
}
