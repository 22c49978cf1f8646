package node

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weave/dns"
	"weave/internal/api"
	"weave/runtime"
)

const (
	kindExport, kindImport          = "export", "import"
	stateUp, stateDown, stateUnsure = "up", "down", "unknown"

	tryPatience    = time.Second // for a connection to a target
	lookupPatience = 2 * time.Second
	lookupLasts    = 30 * time.Second // what a name server of the host's said
	failuresToDown = 2                // in a row, of a target that was up
)

// targetState is a target, as the user wrote it, with one address.
type targetState struct {
	text  string
	at    netip.AddrPort // invalid: it has no address now
	state string
}

// health is what is known of targets. It belongs to portServices.
type health struct {
	n      *node
	failed map[destination]int // failures in a row; absent: never tried
	hosts  map[string]hostLookup
}

type hostLookup struct {
	addrs []netip.Addr
	until time.Time
}

func newHealth(n *node) health {
	return health{n: n, failed: map[destination]int{}, hosts: map[string]hostLookup{}}
}

// survey looks up the targets of all services, and tries those of TCP at once.
func (h *health) survey(ctx context.Context, list []api.PortService) [][]targetState {
	out := make([][]targetState, len(list))
	tries := map[destination]bool{}
	for i, s := range list {
		for _, text := range s.Targets {
			addrs := h.resolve(ctx, s, text)
			if len(addrs) == 0 {
				out[i] = append(out[i], targetState{text: text, state: stateDown})
			}
			for _, a := range addrs {
				t := targetState{text: text, at: a, state: stateUnsure}
				if s.Proto == "tcp" {
					tries[destination{a, s.Name != ""}] = true
				}
				out[i] = append(out[i], t)
			}
		}
	}
	h.try(ctx, slices.Collect(maps.Keys(tries)))
	for i, s := range list {
		for j := range out[i] {
			if t := &out[i][j]; s.Proto == "tcp" && t.at.IsValid() {
				t.state = h.stateOf(destination{t.at, s.Name != ""})
			}
		}
	}
	return out
}

// try connects to all of them side by side and notes how that went.
func (h *health) try(ctx context.Context, targets []destination) {
	up := make([]bool, len(targets))
	var all sync.WaitGroup
	for i, to := range targets {
		all.Go(func() {
			patient, cancel := context.WithTimeout(ctx, tryPatience)
			defer cancel()
			c, err := h.n.connect(patient, to)
			if err == nil {
				err = c.Close()
			}
			up[i] = err == nil
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return
	}
	was := h.failed
	h.failed = make(map[destination]int, len(targets))
	for i, to := range targets {
		n, known := was[to]
		switch {
		case up[i]:
			h.failed[to] = 0
		case known:
			h.failed[to] = n + 1
		default:
			h.failed[to] = failuresToDown
		}
	}
}

func (h *health) stateOf(to destination) string {
	if h.failed[to] >= failuresToDown {
		return stateDown
	}
	return stateUp
}

// resolve finds the addresses of a target: of an export a container's, or of a
// name of the network; of an import what the host itself would find.
func (h *health) resolve(ctx context.Context, s api.PortService, text string) []netip.AddrPort {
	host, portText, err := net.SplitHostPort(text)
	port, numErr := strconv.ParseUint(portText, 10, 16)
	if err != nil || numErr != nil {
		return nil
	}
	var addrs []netip.Addr
	switch a, err := netip.ParseAddr(host); {
	case err == nil:
		addrs = []netip.Addr{a.Unmap()}
	case s.Name != "":
		addrs = h.lookupHost(ctx, host)
	default:
		addrs = h.n.lookupInside(ctx, host)
	}
	var out []netip.AddrPort
	for _, a := range addrs {
		out = append(out, netip.AddrPortFrom(a, uint16(port)))
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// lookupHost asks the host's resolver, and goes on with its last answer when it
// fails.
func (h *health) lookupHost(ctx context.Context, host string) []netip.Addr {
	was := h.hosts[host]
	if time.Now().Before(was.until) {
		return was.addrs
	}
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		addrs = was.addrs
		if missing, ok := errors.AsType[*net.DNSError](err); ok && missing.IsNotFound {
			addrs = nil
		}
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	h.hosts[host] = hostLookup{addrs: addrs, until: time.Now().Add(lookupLasts)}
	return addrs
}

// lookupInside finds a container's addresses, or those of a name of the network.
func (n *node) lookupInside(ctx context.Context, host string) []netip.Addr {
	var out []netip.Addr
	if p, err := n.locate(ctx, host); err == nil {
		for _, held := range n.attachments.held()[p.ident] {
			out = append(out, held.Addr())
		}
	}
	if len(out) > 0 || n.names == nil {
		return out
	}
	want := dns.Canonical(n.cfg.Names.Domain.Qualify(strings.TrimSuffix(host, ".")))
	for _, e := range n.names.index.Entries() {
		if !e.Dead && dns.Canonical(e.Name) == want {
			out = append(out, e.Addr)
		}
	}
	return out
}

// usable are the addresses that connections are led to: those that are not down,
// or all where none is left, since a wrong guess must not cut a service off.
func usable(states []targetState) []netip.AddrPort {
	var up, all []netip.AddrPort
	for _, t := range states {
		if !t.at.IsValid() {
			continue
		}
		all = append(all, t.at)
		if t.state != stateDown {
			up = append(up, t.at)
		}
	}
	if len(up) == 0 {
		return all
	}
	return up
}

// waysOf says which ports are led for a service, and which name it has where.
func waysOf(s api.PortService, targets []netip.AddrPort, exposed []netip.Prefix) (led []runtime.Forwarding, named []namedAddress) {
	at := []netip.Addr{s.Addr}
	switch {
	case s.Name != "":
		at = nil
		for _, p := range exposed {
			at = append(at, p.Addr())
		}
	case !s.Addr.IsValid():
		at = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for _, a := range at {
		var fit []netip.AddrPort
		for _, t := range targets {
			if t.Addr().Is4() == a.Is4() {
				fit = append(fit, t)
			}
		}
		if len(fit) == 0 {
			continue
		}
		led = append(led, runtime.Forwarding{Proto: s.Proto, At: netip.AddrPortFrom(a, portOf(s)), Targets: fit})
		if s.Name != "" {
			named = append(named, namedAddress{s.Name, a})
		}
	}
	return led, named
}

// portOf is the port of a service: an import's is that of its targets unless it
// has one of its own.
func portOf(s api.PortService) uint16 {
	if s.Port != 0 || len(s.Targets) == 0 {
		return s.Port
	}
	_, text, _ := net.SplitHostPort(s.Targets[0])
	port, _ := strconv.ParseUint(text, 10, 16)
	return uint16(port)
}

// atOf is the service as list shows it.
func atOf(s api.PortService) string {
	id := s.ServiceID
	id.Proto, id.Port = "", portOf(s)
	return id.String()
}

func showTargets(s api.PortService, states []targetState) []api.ServiceTarget {
	kind := kindExport
	if s.Name != "" {
		kind = kindImport
	}
	var out []api.ServiceTarget
	for _, t := range states {
		shown := api.ServiceTarget{Kind: kind, Proto: s.Proto, At: atOf(s), Target: t.text, State: t.state}
		if t.at.IsValid() {
			shown.Address = t.at.String()
		}
		out = append(out, shown)
	}
	return out
}
