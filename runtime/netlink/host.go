package netlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	mnl "github.com/mdlayher/netlink"
	vnl "github.com/vishvananda/netlink"

	"weave/runtime"
)

var (
	// ErrHostNamespace reports a target that is the host's own network namespace.
	//
	//lint:ignore ST1005 scripts look for these two lines, as Weave Net wrote them
	ErrHostNamespace = errors.New("Container is running in the host network namespace, and therefore cannot be\n" +
		"connected to weave - perhaps the container was started with --net=host")
	// ErrNoBridge reports that the bridge is not there; the error's text says which.
	ErrNoBridge = errors.New("did you launch weave?")
	// ErrNoTarget reports a target that does not exist, or does not any more.
	ErrNoTarget = errors.New("cannot find the container")
	// ErrForeign reports an interface in our place that we did not make.
	ErrForeign = errors.New("interface exists and is not ours")
)

// Config says what the host's side looks like.
type Config struct {
	Bridge      string           // name of the bridge; "" is "weave"
	MAC         net.HardwareAddr // the bridge's: the peer's name; nil leaves it to the kernel
	MTU         int              // bytes, of the bridge and of attachments that do not say; 0 is runtime.DefaultMTU
	Uplink      string           // name of the uplink TAP, joined by Reconcile and removed by Reset; "" until AddUplink
	PolicyFlows uint32           // how many flows of a family a policy's table remembers; 0: 262,144
	Namespace   string           // path of the network namespace that is the host; "" is the process's
	Tunnels     string           // path of a file that keeps WireGuard's network namespace, see WireGuard; "": there is none
}

// Host is the daemon's network namespace.
type Host struct {
	cfg   Config
	log   *slog.Logger
	space *space

	mu      sync.Mutex // held by whoever changes something; guards what follows
	uplink  string
	service netip.Addr // invalid until EnsureService
	direct  bool       // attachments have no bridge, see Inside

	exposing bool // rules are wanted: since Expose, until Reset
	exposed  []runtime.Exposure

	forwardings []runtime.Forwarding
	fast        fastState
	shields     shieldState
	wireguard   *WireGuard                       // nil: not open
	mtu         atomic.Int64                     // bytes; Config.MTU until SetMTU
	watched     atomic.Pointer[map[chainID]bool] // chains of others that were looked at last

	ears    atomic.Pointer[mnl.Conn] // of WatchRules
	changed chan struct{}            // rules are to be looked at
	wrote   senders

	tampered atomic.Bool // others have changed elements of our sets
	bridgeTables
}

// Open opens the host's namespace. It changes nothing. log may be nil.
func Open(cfg Config, log *slog.Logger) (*Host, error) {
	if cfg.Bridge == "" {
		cfg.Bridge = "weave"
	}
	if cfg.MTU == 0 {
		cfg.MTU = runtime.DefaultMTU
	}
	if cfg.Namespace == "" {
		cfg.Namespace = "/proc/self/ns/net"
	}
	if cfg.MAC != nil && len(cfg.MAC) != 6 {
		return nil, fmt.Errorf("open host: mac %v has not six bytes", cfg.MAC)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s, err := openSpace(cfg.Namespace)
	if err != nil {
		return nil, fmt.Errorf("open host's network namespace: %w (CAP_SYS_ADMIN and CAP_NET_ADMIN are needed)", err)
	}
	h := &Host{cfg: cfg, log: log, space: s, uplink: cfg.Uplink, changed: make(chan struct{}, 1)}
	h.mtu.Store(int64(cfg.MTU))
	return h, nil
}

// Close gives up the namespace's descriptors. No interface is touched.
func (h *Host) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.space.close()
}

// Resolve finds the namespace that target names: a path, a name under /run/netns, or a pid. The host's own is refused with
// ErrHostNamespace, one that does not exist with ErrNoTarget.
func (h *Host) Resolve(target string) (runtime.Target, error) {
	t, err := Resolve(target)
	if err != nil {
		return t, err
	}
	return t, h.refuseHost(t)
}

func (h *Host) refuseHost(t runtime.Target) error {
	if t.ID == h.space.id {
		return ErrHostNamespace
	}
	return nil
}

// EnsureBridge makes the bridge, or adopts one of its name, and sets its MAC, MTU, sysctls and state. Idempotent.
func (h *Host) EnsureBridge() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ensureBridge(context.Background())
}

func (h *Host) ensureBridge(ctx context.Context) error {
	seen, err := h.bridge()
	if err != nil {
		return fmt.Errorf("ensure bridge: %w", err)
	}
	want := runtime.Bridge{Name: h.cfg.Bridge, MTU: h.MTU()}
	copy(want.MAC[:], h.cfg.MAC)
	steps := runtime.Diff(runtime.Want{Bridge: want}, runtime.State{Bridge: seen})
	if _, err := h.perform(ctx, steps, nil, nil); err != nil {
		return fmt.Errorf("ensure bridge %s: %w", h.cfg.Bridge, err)
	}
	return nil
}

// AddUplink makes the interface a port of the bridge and sets it up. Idempotent.
func (h *Host) AddUplink(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.uplink = name
	return h.addUplink(context.Background())
}

func (h *Host) addUplink(ctx context.Context) error {
	if err := h.needBridge(); err != nil {
		return fmt.Errorf("add uplink: %w", err)
	}
	link, err := h.space.LinkByName(h.uplink)
	if err != nil {
		return fmt.Errorf("add uplink %s: %w", h.uplink, err)
	}
	master, err := h.master(link)
	if err != nil {
		return fmt.Errorf("add uplink %s: %w", h.uplink, err)
	}
	a := link.Attrs()
	want := runtime.Want{Uplink: runtime.Uplink{Name: h.uplink}}
	want.Bridge.Name = h.cfg.Bridge
	state := runtime.State{Uplink: runtime.Uplink{Present: true, Name: h.uplink, Up: up(a), Master: master, MTU: a.MTU}}
	if state.Bridge, err = h.bridge(); err != nil {
		return err
	}
	want.Bridge.MTU = state.Bridge.MTU
	if _, err := h.perform(ctx, runtime.Diff(want, state), nil, nil); err != nil {
		return fmt.Errorf("add uplink %s: %w", h.uplink, err)
	}
	return nil
}

// Reset removes the bridge, the uplink, and every interface of ours with its other end in the containers, and nothing
// else. It goes on after an error and returns all of them. The multicast filter goes from the namespaces that a process is
// in or that have a name under /run/netns; in others it stays, and does nothing without its interface.
func (h *Host) Reset() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	links, err := retry(h.space.LinkList)
	if err != nil {
		return fmt.Errorf("reset: list interfaces: %w", err)
	}
	links = slices.DeleteFunc(links, func(l vnl.Link) bool { return !h.ours(l) })
	h.resetFilters(links)
	var errs []error
	if err := h.redirect(netip.Addr{}, 0, 0); err != nil {
		h.log.Debug("cannot look for redirections", "err", err) // a kernel without nf_tables has none
	}
	h.removeFast()
	h.exposing, h.exposed, h.forwardings = false, nil, nil
	if warnings, err := h.assertRules(); err != nil || len(warnings) > 0 {
		h.log.Warn("rules of the host may be left behind", "err", err, "warnings", warnings) // a kernel without nf_tables has none
	}
	if err := h.resetBridgeTables(); err != nil {
		h.log.Warn("rules of the bridge may be left behind", "err", err)
	}
	for _, l := range links {
		if l.Type() == "bridge" {
			errs = append(errs, h.dropServices(l, netip.Addr{}))
		}
	}
	for _, l := range links {
		if err := h.space.LinkDel(l); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("reset: remove %s: %w", l.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

// ours tells whether an interface is this host's: the bridge, the uplink, or one with our prefix that is no port of
// another bridge, which would be another daemon's.
func (h *Host) ours(l vnl.Link) bool {
	name := l.Attrs().Name
	switch l.Type() {
	case "bridge":
		return name == h.cfg.Bridge
	case "tuntap":
		return name == h.uplink
	case "veth":
		master, err := h.master(l)
		return err == nil && strings.HasPrefix(name, runtime.HostPrefix) && (master == "" || master == h.cfg.Bridge)
	}
	return false
}

// bridge shows the bridge; an interface of its name that is none is an error.
func (h *Host) bridge() (runtime.Bridge, error) {
	link, err := h.space.LinkByName(h.cfg.Bridge)
	if gone(err) {
		return runtime.Bridge{}, nil
	}
	if err != nil {
		return runtime.Bridge{}, fmt.Errorf("look for bridge %s: %w", h.cfg.Bridge, err)
	}
	if link.Type() != "bridge" {
		return runtime.Bridge{}, fmt.Errorf("%w: %s is a %s and no bridge; remove it (ip link delete %[2]s) or choose another name for the bridge",
			ErrForeign, h.cfg.Bridge, link.Type())
	}
	a := link.Attrs()
	b := runtime.Bridge{Present: true, Name: h.cfg.Bridge, Up: up(a), MTU: a.MTU}
	copy(b.MAC[:], a.HardwareAddr)
	return b, nil
}

func (h *Host) needBridge() error {
	b, err := h.bridge()
	if err == nil && !b.Present {
		err = fmt.Errorf("bridge %q not present; %w", h.cfg.Bridge, ErrNoBridge)
	}
	return err
}

// master is the name of the interface that link is a port of, "" if none.
func (h *Host) master(link vnl.Link) (string, error) {
	index := link.Attrs().MasterIndex
	if index == 0 {
		return "", nil
	}
	m, err := h.space.LinkByIndex(index)
	if gone(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for the bridge of %s: %w", link.Attrs().Name, err)
	}
	return m.Attrs().Name, nil
}
