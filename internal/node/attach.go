package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"weave/internal/api"
	"weave/internal/store"
	"weave/runtime"
	"weave/runtime/netlink"
)

// attachments remembers what is attached and makes the kernel agree. One
// change runs at a time.
type attachments struct {
	host  wiring
	store *store.Store
	log   *slog.Logger
	boot  string // the kernel's boot id: namespaces end with it

	mu   sync.Mutex
	list map[runtime.Identity]runtime.Attachment
}

func newAttachments(h wiring, st *store.Store, log *slog.Logger) *attachments {
	return &attachments{
		host: h, store: st, log: log.With("part", "attach"), boot: bootID(),
		list: map[runtime.Identity]runtime.Attachment{},
	}
}

// saved is an attachment as the state file has it.
type saved struct {
	Boot string
	runtime.Attachment
}

// load reads what was attached in this boot and forgets what was in others.
func (a *attachments) load() error {
	saves, err := a.store.List(attachmentPrefix)
	if err != nil {
		return err
	}
	for _, s := range saves {
		var v saved
		if err := json.Unmarshal(s.Value, &v); err != nil || v.Boot != a.boot {
			a.log.Info("an attachment of an earlier boot is forgotten", "key", s.Key, "err", err)
			if err := a.store.Delete(s.Key); err != nil {
				return err
			}
			continue
		}
		a.list[v.Target.ID] = v.Attachment
	}
	return nil
}

// reconcile makes the kernel show what is remembered, and forgets namespaces
// that are gone.
func (a *attachments) reconcile(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	wanted := make([]runtime.Attachment, 0, len(a.list))
	for _, at := range a.list {
		wanted = append(wanted, at)
	}
	lost, err := a.host.Reconcile(ctx, wanted)
	for _, at := range lost {
		a.log.Info("a container is gone", "target", at.Target.Text)
		err = errors.Join(err, a.forget(at.Target.ID))
	}
	return err
}

// resize gives every interface another MTU. One whose namespace has gone needs none.
func (a *attachments) resize(ctx context.Context, mtu int) error {
	host, ok := a.host.(interface {
		Resize(ctx context.Context, a runtime.Attachment, mtu int) error
	})
	if !ok {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, at := range a.list {
		if err := host.Resize(ctx, at, mtu); err != nil && !errors.Is(err, netlink.ErrNoTarget) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (a *attachments) forget(id runtime.Identity) error {
	delete(a.list, id)
	return a.store.Delete(attachmentKey(id))
}

func (a *attachments) save(at runtime.Attachment) error {
	value, err := json.Marshal(saved{Boot: a.boot, Attachment: at})
	if err != nil {
		return err
	}
	if err := a.store.Put(attachmentKey(at.Target.ID), value); err != nil {
		return err
	}
	a.list[at.Target.ID] = at
	return nil
}

func attachmentKey(id runtime.Identity) string {
	return fmt.Sprintf("%s%d-%d", attachmentPrefix, id.Dev, id.Inode)
}

// ident is what an attachment's addresses are held under: an engine's id of the
// container, or the namespace's identity.
func ident(at runtime.Attachment) string {
	if isEngineID(at.ID) {
		return at.ID
	}
	return at.Target.ID.String()
}

func isEngineID(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}

// identOf is the ident of a namespace: the one it is attached under, or what a
// plain namespace has.
func (a *attachments) identOf(id runtime.Identity) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.list[id]; ok {
		return ident(at)
	}
	return id.String()
}

// identNamed is the ident of what was attached by that name; "" if nothing was.
func (a *attachments) identNamed(text string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.list {
		if at.Target.Text == text {
			return ident(at)
		}
	}
	return ""
}

// placing is what a namespace is to get.
type placing struct {
	target           runtime.Target // resolved
	ident            string
	mac              runtime.MAC // of a new interface
	addresses        []netip.Prefix
	noMulticastRoute bool
}

// attach adds addresses to a namespace, and the interface where it has none. An
// older namespace with the same ident is forgotten: the container has a new one.
func (a *attachments) attach(ctx context.Context, p placing) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, known := a.list[p.target.ID]
	if !known {
		at = runtime.Attachment{ID: p.target.Text, MAC: p.mac}
		if isEngineID(p.ident) {
			at.ID = p.ident
		}
	}
	at.Target = p.target
	at.Addresses = runtime.Add(at.Addresses, p.addresses)
	at.MulticastRoute = at.MulticastRoute || !p.noMulticastRoute
	warnings, err := a.host.Attach(ctx, at)
	if err != nil {
		return userError(err)
	}
	for _, w := range warnings {
		a.log.Warn(w, "target", p.target.Text)
	}
	for id, other := range a.list {
		if id != p.target.ID && ident(other) == ident(at) {
			if err := a.forget(id); err != nil {
				return err
			}
		}
	}
	return a.save(at)
}

// detach removes addresses, and with the last one the interface. What is not
// there needs no removing.
func (a *attachments) detach(ctx context.Context, p place, addresses []netip.Prefix) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.target.ID.IsZero() {
		return a.forgetIdent(p.ident)
	}
	if len(addresses) == 0 { // to the host that would mean all of them
		return nil
	}
	if err := a.host.Detach(ctx, p.target, addresses); err != nil {
		return userError(err)
	}
	at, known := a.list[p.target.ID]
	if !known {
		return nil
	}
	if at.Addresses = runtime.Remove(at.Addresses, addresses); len(at.Addresses) == 0 {
		return a.forget(p.target.ID)
	}
	return a.save(at)
}

// forgetIdent forgets a namespace that is gone.
func (a *attachments) forgetIdent(want string) error {
	for id, at := range a.list {
		if want != "" && ident(at) == want {
			return a.forget(id)
		}
	}
	return nil
}

// containers lists what the kernel shows of all that is attached.
func (a *attachments) containers() []api.Container {
	a.mu.Lock()
	list := slices.Collect(maps.Values(a.list))
	a.mu.Unlock()
	slices.SortFunc(list, func(x, y runtime.Attachment) int { return strings.Compare(x.ID, y.ID) })
	all := make([][]api.Container, len(list))
	var g errgroup.Group
	g.SetLimit(goruntime.NumCPU())
	for i, at := range list {
		g.Go(func() error {
			all[i] = a.container(nil, at.ID, at.Target)
			return nil
		})
	}
	_ = g.Wait() // none fails
	return slices.Concat(all...)
}

// container adds what the kernel shows of one.
func (a *attachments) container(out []api.Container, name string, t runtime.Target) []api.Container {
	mac, addresses, present, err := a.host.Interface(t)
	if err != nil || !present {
		return out
	}
	return append(out, api.Container{ID: name, MAC: net.HardwareAddr(mac[:]), Addresses: addresses})
}

// userError gives what the user did wrong its own status; the rest is ours.
func userError(err error) error {
	for _, known := range []error{netlink.ErrHostNamespace, runtime.ErrTarget} {
		if errors.Is(err, known) {
			return api.BadRequest(known.Error())
		}
	}
	for _, known := range []error{netlink.ErrNoTarget, netlink.ErrForeign, netlink.ErrNoBridge, netlink.ErrConflict} {
		if errors.Is(err, known) {
			return api.BadRequest(err.Error())
		}
	}
	return err
}

// newMAC makes a random unicast address of the locally administered space
// (IEEE 802-2014, 8.4).
func newMAC() runtime.MAC {
	var m runtime.MAC
	_, _ = rand.Read(m[:]) // never fails, crypto/rand
	m[0] = m[0]&^1 | 2
	return m
}

// bootID names this boot of the kernel; empty where /proc does not say.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
