package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
)

// Policies changes and explains the policy of the network.
type Policies interface {
	// SetPolicy makes a text the policy of the network.
	SetPolicy(ctx context.Context, text string) (warnings []string, err error)
	// ClearPolicy takes the policy away: everything is allowed.
	ClearPolicy(ctx context.Context) (warnings []string, err error)
	PolicyStatus(ctx context.Context) (PolicyStatus, error)
	// TestPolicy tells what the policy says of a connection; service is PORT, PROTOCOL/PORT, icmp, or "" for none in particular.
	TestPolicy(ctx context.Context, from, to, service string) (PolicyVerdict, error)
}

// PolicyStatus is how the policy stands on this host. Without a Default there is none.
type PolicyStatus struct {
	Version   uint64
	Author    string    // the peer it was set at
	SetAt     time.Time // by that peer's clock
	Text      string    `json:"-"`
	Default   string    // "allow" or "deny"
	Fault     string    // why it is not enforced on this host
	Endpoints int       // known in the network
	Groups    []PolicyGroup
	Rules     []PolicyRule
	Other     []PolicyCount // packets that no rule decided about
}

// PolicyGroup is a group with the number of known addresses in it.
type PolicyGroup struct {
	Name      string
	Addresses int
}

// PolicyCount counts on this host: packets that something was decided about. Of a flow that is allowed that is the first one.
type PolicyCount struct {
	Text    string
	Packets uint64
	Bytes   uint64
}

// PolicyRule is a rule with its counts.
type PolicyRule struct {
	Line int
	PolicyCount
}

// PolicyVerdict is what the policy says of one connection.
type PolicyVerdict struct {
	Allowed  bool
	Line     int    // of the rule
	Rule     string // "": the default
	NoPolicy bool   // there is none
	Service  string
	From, To PolicyEnd
}

// PolicyEnd is one end of a connection. Without a Peer nobody known has the address.
type PolicyEnd struct {
	Name, Address, Peer string
	Groups              []string
}

// String explains a verdict.
func (v PolicyVerdict) String() string {
	var b strings.Builder
	line := func(label string, e PolicyEnd) {
		fmt.Fprintf(&b, "%-5s %s", label, e.Address)
		if e.Peer != "" {
			fmt.Fprintf(&b, ", %s on %s", e.Name, e.Peer)
		}
		if len(e.Groups) == 0 {
			b.WriteString(", in no group\n")
		} else {
			fmt.Fprintf(&b, ", in %s\n", strings.Join(e.Groups, ", "))
		}
	}
	line("from", v.From)
	line("to", v.To)
	what := "denied"
	if v.Allowed {
		what = "allowed"
	}
	if v.Service != "" {
		what = v.Service + " is " + what
	}
	switch {
	case v.NoPolicy:
		fmt.Fprintf(&b, "%s: there is no policy\n", what)
	case v.Rule == "":
		fmt.Fprintf(&b, "%s by default\n", what)
	default:
		fmt.Fprintf(&b, "%s by line %d: %s\n", what, v.Line, v.Rule)
	}
	return b.String()
}

// RenderPolicy makes the text of `weave policy status`.
func RenderPolicy(s PolicyStatus) string {
	var b strings.Builder
	if s.Default == "" && s.Fault == "" {
		b.WriteString("no policy: everything is allowed\n")
		return b.String()
	}
	fmt.Fprintf(&b, "version %d, set at %s on %s\n", s.Version, s.SetAt.UTC().Format(time.DateTime), s.Author)
	if s.Fault != "" {
		fmt.Fprintf(&b, "not enforced on this host: %s\n", s.Fault)
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, g := range s.Groups {
		fmt.Fprintf(w, "group\t%s\t%d addresses\n", g.Name, g.Addresses)
	}
	_ = w.Flush() // to memory
	if len(s.Groups) > 0 {
		b.WriteByte('\n')
	}
	w = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "LINE\tRULE\tPACKETS\tBYTES\n")
	for _, r := range s.Rules {
		fmt.Fprintf(w, "%d\t%s\t%d\t%d\n", r.Line, r.Text, r.Packets, r.Bytes)
	}
	for _, c := range s.Other {
		text := c.Text
		if text == "default" {
			text += " " + s.Default
		}
		fmt.Fprintf(w, "-\t%s\t%d\t%d\n", text, c.Packets, c.Bytes)
	}
	_ = w.Flush()
	return b.String()
}

func (s *Server) addPolicyRoutes(mux *http.ServeMux) {
	p := s.backends.Policies
	if p == nil {
		return
	}
	change := func(act func(*http.Request) ([]string, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			warnings, err := act(r)
			if err != nil {
				fail(w, err)
				return
			}
			warn(w, warnings)
			noContent(w, r)
		}
	}
	mux.HandleFunc("PUT /policy", change(func(r *http.Request) ([]string, error) { return p.SetPolicy(r.Context(), r.Form.Get("text")) }))
	mux.HandleFunc("DELETE /policy", change(func(r *http.Request) ([]string, error) { return p.ClearPolicy(r.Context()) }))
	show := func(render func(PolicyStatus) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			status, err := p.PolicyStatus(r.Context())
			if err != nil {
				fail(w, err)
				return
			}
			writeText(w, render(status))
		}
	}
	mux.HandleFunc("GET /policy", show(func(s PolicyStatus) string { return s.Text }))
	mux.HandleFunc("GET /policy/status", show(RenderPolicy))
	mux.HandleFunc("GET /policy/test", func(w http.ResponseWriter, r *http.Request) {
		v, err := p.TestPolicy(r.Context(), r.Form.Get("from"), r.Form.Get("to"), r.Form.Get("service"))
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	})
}

// SetPolicy makes a text the policy of the network.
func (c *Client) SetPolicy(ctx context.Context, text string) error {
	_, err := c.do(ctx, http.MethodPut, "/policy", url.Values{"text": {text}}, "")
	return err
}

// ClearPolicy takes it away.
func (c *Client) ClearPolicy(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodDelete, "/policy", nil, "")
	return err
}

// Policy fetches the text that was set.
func (c *Client) Policy(ctx context.Context) (string, error) {
	return c.do(ctx, http.MethodGet, "/policy", nil, "")
}

// PolicyStatus fetches the text of policy status.
func (c *Client) PolicyStatus(ctx context.Context) (string, error) {
	return c.do(ctx, http.MethodGet, "/policy/status", nil, "")
}

// TestPolicy asks what the policy says of a connection.
func (c *Client) TestPolicy(ctx context.Context, from, to, service string) (PolicyVerdict, error) {
	var v PolicyVerdict
	text, err := c.do(ctx, http.MethodGet, "/policy/test", url.Values{"from": {from}, "to": {to}, "service": {service}}, "")
	if err == nil {
		err = json.Unmarshal([]byte(text), &v)
	}
	return v, err
}
