package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
)

// Reporter tells what the daemon knows of itself. It is called for every status request: it answers at once, from a
// snapshot.
type Reporter interface {
	Report() Report
}

// Peers changes the list of addresses the daemon dials.
type Peers interface {
	// Connect adds targets, or with replace makes them the whole list. The targets are well formed and their names
	// resolved when the server looked; they are passed on as typed.
	Connect(ctx context.Context, targets []string, replace bool) error
	// Forget removes targets, compared as strings; unknown ones are ignored.
	Forget(ctx context.Context, targets []string) error
}

// Attacher joins network namespaces to the switch.
type Attacher interface {
	Attach(ctx context.Context, req AttachRequest) (AttachReply, error)
	Detach(ctx context.Context, req AttachRequest) (AttachReply, error)
	// Containers lists what is attached: everything, or only the named ones in the order asked, leaving out those
	// that are not attached. A named one's ID is the name as asked.
	Containers(ctx context.Context, names []string) ([]Container, error)
}

// Lifecycle ends the daemon.
type Lifecycle interface {
	// Stop asks the daemon to end and returns without waiting for it. The request that caused it is still answered:
	// the context of Server.Run is to be cancelled, and Run waits for requests in flight.
	Stop()
	// Reset removes every interface, rule and file of ours. The server calls Stop after it.
	Reset(ctx context.Context) error
}

// Backends do the work behind the routes. A nil one makes its routes answer 404, as an absent subsystem does.
type Backends struct {
	Reporter  Reporter
	Peers     Peers
	Attacher  Attacher
	Lifecycle Lifecycle
	Secrets   Secrets
	Holders   Holders
	Space     Space
	Names     Names
	Hooks     Hooks
	Proxies   Proxies
	Exposer   Exposer
	Services  PortServices
	Policies  Policies
	Metrics   http.Handler // GET /metrics
}

// AttachRequest names a network namespace and addresses for it.
type AttachRequest struct {
	// Target is an absolute path to a network namespace, a container of an engine by name or id (with the engine's
	// name and a colon before it where that is not clear), a name under /run/netns, or a pid in the daemon's pid
	// namespace.
	Target           string
	Addresses        []AddressSpec // at least one
	NoMulticastRoute bool
	Names            []string // to register; without any the container's own is
	WithoutDNS       bool     // register none
	RewriteHosts     bool     // of a container: write its /etc/hosts
	AddHosts         []string // NAME:ADDRESS, for the same file
}

// AddressSpec is one address as users ask for it.
type AddressSpec struct {
	// Allocate has an address of the subnet Prefix allocated, or of the default one if that is not valid. Without it
	// Prefix is the address, host bits kept: 10.2.1.1/24.
	Allocate bool
	Prefix   netip.Prefix
}

// AttachReply lists the addresses attached or detached.
type AttachReply struct {
	Addresses []netip.Prefix
	Warnings  []string // what works but may surprise, for the user
}

// Container is an attached network namespace.
type Container struct {
	ID        string // an engine's id, the name asked for, or what identifies the namespace
	MAC       net.HardwareAddr
	Addresses []netip.Prefix
}

// StatusError is an error with the HTTP status it is answered with; the text goes to the user as it is. Any other
// error of a backend is answered with 500.
type StatusError struct {
	Code int
	Text string
}

func (e *StatusError) Error() string { return e.Text }

// BadRequest is a StatusError of status 400.
func BadRequest(text string) *StatusError {
	return &StatusError{Code: http.StatusBadRequest, Text: text}
}

// ErrNotRunning is what a Client returns when nothing listens on the socket.
var ErrNotRunning = errors.New("weave is not running")
