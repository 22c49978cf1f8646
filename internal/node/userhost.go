package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"weave/runtime"
	"weave/runtime/netlink"
	"weave/runtime/rootless"
	"weave/stack"
	"weave/stack/filter"
	"weave/tun"
)

// InsideVerb is what the daemon runs of itself in a container's namespaces: Inside.
const InsideVerb = "inside"

// userHost is the wiring of a host on which we are an ordinary user: each
// namespace has a TAP, made by a child in it, and every TAP is a port of the
// switch. They go with this process.
type userHost struct {
	dp      *dataplane
	program string // ours
	mtu     int
	service netip.Addr   // containers get a route to it
	egress  []netip.Addr // gateways of containers without another way out
	log     *slog.Logger

	mu   sync.Mutex // one change at a time; guards taps
	taps map[runtime.Identity]*userTap
	past tun.Stats // of interfaces that went
}

// userTap is a namespace's interface.
type userTap struct {
	at     runtime.Attachment
	device *tun.Device
	port   *localPort
	watch  *rootless.Watch
}

// insideRequest is what the child is told.
type insideRequest struct {
	Attachment runtime.Attachment
	MakeTap    bool
	Service    netip.Addr
	Gateways   []netip.Addr
}

type insideReply struct {
	Warnings []string
}

func newUserHost(dp *dataplane, mtu int, log *slog.Logger) (*userHost, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &userHost{dp: dp, program: program, mtu: mtu, log: log, taps: map[runtime.Identity]*userTap{}}, checkUser()
}

// checkUser says what an ordinary user lacks here.
func checkUser() error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("users cannot have network interfaces here: %w; an administrator can allow it with: chmod 0666 /dev/net/tun", err)
	}
	f.Close()
	text, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	if err == nil && strings.TrimSpace(string(text)) == "0" {
		return errors.New("users cannot have namespaces here: an administrator can allow it with: sysctl user.max_user_namespaces=15000")
	}
	return nil
}

// Resolve implements wiring.
func (h *userHost) Resolve(target string) (runtime.Target, error) {
	t, err := netlink.Resolve(target)
	if err != nil {
		return t, err
	}
	own, err := netlink.Resolve("/proc/self/ns/net")
	if err == nil && own.ID == t.ID {
		return t, netlink.ErrHostNamespace
	}
	return t, nil
}

// pidOf is a process in a target's namespace.
func pidOf(t runtime.Target) (int, error) {
	text, ok := strings.CutPrefix(t.Path, "/proc/")
	if ok {
		text, _, _ = strings.Cut(text, "/")
		if pid, err := strconv.Atoi(text); err == nil {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%w: without the rights of root a namespace is entered by a process in it: give a pid, or a container", runtime.ErrTarget)
}

// Attach implements wiring.
func (h *userHost) Attach(ctx context.Context, a runtime.Attachment) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	warnings, err := h.attach(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", a.Target, err)
	}
	return warnings, nil
}

func (h *userHost) attach(ctx context.Context, a runtime.Attachment) ([]string, error) {
	if len(a.Addresses) == 0 {
		return nil, errors.New("no addresses to attach with")
	}
	if a.MTU == 0 {
		a.MTU = h.mtu
	}
	if tap := h.taps[a.Target.ID]; tap != nil {
		warnings, _, err := h.inside(ctx, tap.watch.PID(), insideRequest{Attachment: a, Service: h.service, Gateways: h.egress})
		if err == nil {
			tap.at = a
			tap.keep()
		}
		return warnings, err
	}
	tap, warnings, err := h.makeTap(ctx, a)
	if err != nil {
		return nil, err
	}
	return warnings, h.take(tap)
}

// makeTap has a child make the interface of a namespace. It needs no lock.
func (h *userHost) makeTap(ctx context.Context, a runtime.Attachment) (*userTap, []string, error) {
	pid, err := pidOf(a.Target)
	if err != nil {
		return nil, nil, err
	}
	watch, err := rootless.NewWatch(a.Target.ID, pid)
	if err != nil {
		return nil, nil, err
	}
	warnings, file, err := h.inside(ctx, pid, insideRequest{Attachment: a, MakeTap: true, Service: h.service, Gateways: h.egress})
	if err != nil {
		watch.Close()
		return nil, nil, err
	}
	tap := &userTap{at: a, port: &localPort{}, watch: watch}
	if tap.device, err = adopt(file); err != nil {
		watch.Close()
		return nil, nil, err
	}
	return tap, warnings, nil
}

// take makes an interface a port of the switch, or closes it. h.mu is held.
func (h *userHost) take(tap *userTap) (err error) {
	if tap.port.port, err = h.freePort(); err != nil {
		return errors.Join(err, tap.device.Close(), tap.watch.Close())
	}
	h.taps[tap.at.Target.ID] = tap
	for _, q := range tap.device.Queues() {
		tap.port.queues = append(tap.port.queues, q)
	}
	tap.keep()
	h.dp.addLocal(tap.port)
	return nil
}

// keep has the interface's guard follow its addresses.
func (t *userTap) keep() {
	if !t.at.Guarded || t.at.MAC.IsZero() {
		t.port.guard.Store(nil)
		return
	}
	t.port.guard.Store(filter.NewGuard(t.at.MAC, addrsOf(t.at.Addresses)))
}

// adopt makes a device of a descriptor that a child sent.
func adopt(file *os.File) (*tun.Device, error) {
	if file == nil {
		return nil, errors.New("no interface came back from the container")
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return tun.FromFile(fd)
}

// freePort finds a port for one more namespace.
func (h *userHost) freePort() (stack.Port, error) {
	used := map[stack.Port]bool{}
	for _, tap := range h.taps {
		used[tap.port.port] = true
	}
	for p := tapPort; p <= lastLocalPort; p++ {
		if !used[p] && h.dp.locals.Load().of(p) == nil {
			return p, nil
		}
	}
	return 0, fmt.Errorf("this daemon has %d interfaces already, which is all it can have", len(used))
}

// inside has a child do something in a container's namespaces.
func (h *userHost) inside(ctx context.Context, pid int, req insideRequest) ([]string, *os.File, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, nil, err
	}
	text, file, err := rootless.Run(ctx, rootless.Request{PID: pid, Args: []string{h.program, InsideVerb}, Body: body})
	if err != nil {
		return nil, nil, err
	}
	var reply insideReply
	if err := json.Unmarshal(text, &reply); err != nil {
		if file != nil {
			file.Close()
		}
		return nil, nil, fmt.Errorf("the child in the container answered nonsense: %w", err)
	}
	return reply.Warnings, file, nil
}

// Detach implements wiring.
func (h *userHost) Detach(ctx context.Context, t runtime.Target, addresses []netip.Prefix) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	tap := h.taps[t.ID]
	if tap == nil {
		return nil
	}
	left := tap.at
	left.Addresses = nil
	if addresses != nil {
		left.Addresses = runtime.Remove(tap.at.Addresses, addresses)
	}
	if len(left.Addresses) == len(tap.at.Addresses) {
		return nil
	}
	_, _, err := h.inside(ctx, tap.watch.PID(), insideRequest{Attachment: left, Service: h.service})
	if len(left.Addresses) == 0 {
		h.drop(t.ID)
	}
	if err != nil {
		return fmt.Errorf("detach %s: %w", t, err)
	}
	tap.at = left
	tap.keep()
	return nil
}

// drop takes an interface away. h.mu is held.
func (h *userHost) drop(id runtime.Identity) {
	tap := h.taps[id]
	delete(h.taps, id)
	h.dp.removeLocal(tap.port.port)
	h.past = h.past.Add(tap.device.Stats())
	if err := errors.Join(tap.device.Close(), tap.watch.Close()); err != nil {
		h.log.Debug("an interface was closed twice", "err", err)
	}
}

// Reconcile implements wiring. It is called once, when the daemon starts and nothing is there.
func (h *userHost) Reconcile(ctx context.Context, wanted []runtime.Attachment) (lost []runtime.Attachment, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var alive []runtime.Attachment
	for _, a := range wanted {
		t, err := netlink.Resolve(a.Target.Path)
		if errors.Is(err, netlink.ErrNoTarget) || (err == nil && t.ID != a.Target.ID) {
			lost = append(lost, a)
			continue
		}
		if a.MTU == 0 {
			a.MTU = h.mtu
		}
		alive = append(alive, a)
	}
	taps, errs := make([]*userTap, len(alive)), make([]error, len(alive))
	var children errgroup.Group
	children.SetLimit(childrenAtOnce)
	for i, a := range alive {
		children.Go(func() error {
			taps[i], _, errs[i] = h.makeTap(ctx, a)
			return nil
		})
	}
	_ = children.Wait()
	for i, tap := range taps {
		if errs[i] == nil {
			errs[i] = h.take(tap)
		}
		if errs[i] != nil {
			errs[i] = fmt.Errorf("reconcile %s: %w", alive[i].Target, errs[i])
		}
	}
	return lost, errors.Join(errs...)
}

// childrenAtOnce make interfaces again when the daemon starts.
const childrenAtOnce = 4

// Interface implements wiring. Nobody but us changes a TAP that is ours to hold.
func (h *userHost) Interface(t runtime.Target) (runtime.MAC, []netip.Prefix, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	tap := h.taps[t.ID]
	if tap == nil {
		return runtime.MAC{}, nil, false, nil
	}
	return tap.at.MAC, slices.Clone(tap.at.Addresses), true, nil
}

// Lives implements wiring.
func (h *userHost) Lives(t runtime.Target) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	tap := h.taps[t.ID]
	if tap == nil {
		return false
	}
	if tap.watch.Lives() {
		return true
	}
	h.drop(t.ID)
	return false
}

// stats sums the counts of all interfaces, those that went included.
func (h *userHost) stats() tun.Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	sum := h.past
	for _, tap := range h.taps {
		sum = sum.Add(tap.device.Stats())
	}
	return sum
}

// owner tells whose an address and a MAC are, for the way out.
func (h *userHost) owner(addr netip.Addr, mac net.HardwareAddr) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, tap := range h.taps {
		has := func(p netip.Prefix) bool { return p.Addr() == addr }
		if string(tap.at.MAC[:]) == string(mac) && slices.ContainsFunc(tap.at.Addresses, has) {
			return ident(tap.at), true
		}
	}
	return "", false
}

// Reset implements wiring.
func (h *userHost) Reset() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.taps {
		h.drop(id)
	}
	return nil
}
