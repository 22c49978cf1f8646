package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"weave/dns"
	"weave/internal/api"
	"weave/internal/store"
	"weave/runtime"
)

const (
	// keyServices is where the state file has the services of this host.
	keyServices = "services"
	// serviceIdent is what names of imported services are held under.
	serviceIdent = "weave:service"
	// serviceInterval is how often targets are looked up and tried.
	serviceInterval = 3 * time.Second
)

// savedServices is what outlives a restart, of the machine too.
type savedServices struct {
	List []api.PortService
	Led  []runtime.Forwarding // what the kernel was told last, so that a start leaves no gap
}

// portServices leads ports of the host to containers, and of its exposed
// addresses to elsewhere. One change, or look at the targets, runs at a time.
type portServices struct {
	n     *node
	lead  portLeader
	kick  chan struct{} // what is exposed has changed
	shown atomic.Pointer[[]api.ServiceTarget]

	mu    sync.Mutex
	saved savedServices
	named []namedAddress // names that are registered
	health
}

type namedAddress struct {
	name string
	addr netip.Addr
}

func newPortServices(n *node, lead portLeader) *portServices {
	return &portServices{n: n, lead: lead, kick: make(chan struct{}, 1), health: newHealth(n)}
}

// recall reads what was there before. It comes before anything is exposed, so
// that the rules of services stay meanwhile.
func (s *portServices) recall() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok, err := s.n.store.Get(keyServices)
	if err != nil || !ok {
		return err
	}
	if err := json.Unmarshal(text, &s.saved); err != nil {
		s.n.log.Warn("the services of this host are unreadable and forgotten", "err", err)
		s.saved = savedServices{}
		return s.n.store.Delete(keyServices)
	}
	if s.n.bridge == nil { // nothing was led while we were away
		s.saved.Led = nil
		return nil
	}
	return s.lead.Forward(s.saved.Led)
}

// recallNamed finds the names that are registered, so that those nobody wants any
// more can go. It comes after the catalogue has taken its names over.
func (s *portServices) recallNamed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	prefix := namePrefix + serviceIdent + "\x00"
	saves, err := s.n.store.List(prefix)
	for _, one := range saves {
		name, text, _ := strings.Cut(strings.TrimPrefix(one.Key, prefix), "\x00")
		if addr, err := netip.ParseAddr(text); err == nil {
			s.named = append(s.named, namedAddress{name, addr})
		}
	}
	return err
}

// run looks at the targets now and then, as long as there are services.
func (s *portServices) run(ctx context.Context) error {
	if err := s.recallNamed(); err != nil {
		return err
	}
	tick := time.NewTicker(serviceInterval)
	defer tick.Stop()
	said := ""
	for {
		text := ""
		if err := s.look(ctx); err != nil {
			text = err.Error()
		}
		if text != "" && text != said && ctx.Err() == nil {
			s.n.log.Warn("services could not be brought up to date", "err", text)
		}
		said = text
		select {
		case <-ctx.Done():
			return nil
		case <-s.kick:
		case <-tick.C:
		}
	}
}

// rouse has the targets looked at soon.
func (s *portServices) rouse() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *portServices) look(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.saved.List) == 0 && len(s.saved.Led) == 0 && len(s.named) == 0 {
		return nil
	}
	return s.settle(ctx)
}

// AddService implements api.PortServices. One that is there with the same targets stays.
func (s *portServices) AddService(ctx context.Context, added api.PortService) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	added.Port = portOf(added) // of an import: it stays when the targets' change
	if slices.ContainsFunc(s.saved.List, func(had api.PortService) bool {
		return had.ServiceID == added.ServiceID && slices.Equal(had.Targets, added.Targets)
	}) {
		return s.change(ctx, slices.Clone(s.saved.List), &added)
	}
	if err := s.refuse(added.ServiceID); err != nil {
		return nil, err
	}
	return s.change(ctx, append(slices.Clone(s.saved.List), added), &added)
}

// BindService implements api.PortServices.
func (s *portServices) BindService(ctx context.Context, bound api.PortService) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(bound.ServiceID)
	if err != nil {
		return nil, err
	}
	list := slices.Clone(s.saved.List)
	bound.ServiceID = list[i].ServiceID
	list[i] = bound
	return s.change(ctx, list, &bound)
}

// RemoveService implements api.PortServices.
func (s *portServices) RemoveService(ctx context.Context, id api.ServiceID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(id)
	if err != nil {
		return err
	}
	_, err = s.change(ctx, slices.Delete(slices.Clone(s.saved.List), i, i+1), nil)
	return err
}

// ListServices implements api.PortServices.
func (s *portServices) ListServices() []api.ServiceTarget {
	if shown := s.shown.Load(); shown != nil {
		return *shown
	}
	return nil
}

// find also finds an import by its name alone, if it is the only one of that name.
func (s *portServices) find(id api.ServiceID) (int, error) {
	found := -1
	for i, had := range s.saved.List {
		same := had.ServiceID == id || id.Name != "" && id.Port == 0 && had.Name == id.Name && had.Proto == id.Proto
		if same && found >= 0 {
			return 0, api.BadRequest(fmt.Sprintf("there are several services %s here: give the port too, %[1]s:PORT", id.Name))
		}
		if same {
			found = i
		}
	}
	if found < 0 {
		return 0, api.BadRequest(fmt.Sprintf("there is no service %s here: see 'weave service list'", id))
	}
	return found, nil
}

// refuse tells why a service cannot be added.
func (s *portServices) refuse(id api.ServiceID) error {
	for _, had := range s.saved.List {
		switch {
		case had.ServiceID == id:
			return api.BadRequest(fmt.Sprintf("there is a service %s already: 'weave service bind' gives it other targets", id))
		case had.Proto != id.Proto || portOf(had) != id.Port || (had.Name == "") != (id.Name == ""):
		case id.Name != "" || !had.Addr.IsValid() || !id.Addr.IsValid():
			return api.BadRequest(fmt.Sprintf("port %d is that of service %s", id.Port, had.ServiceID))
		}
	}
	switch {
	case id.Name != "" && s.n.names == nil:
		return api.BadRequest("names are switched off (--no-dns): an imported service has one")
	case id.Name != "":
		return s.n.checkNames(api.AttachRequest{Names: []string{id.Name}})
	case s.n.bridge != nil && id.Addr.IsValid() && id.Addr.IsLoopback():
		return api.BadRequest(fmt.Sprintf("%s: the kernel leads no loopback addresses; the host reaches containers by their addresses", id))
	case id.Name == "" && int(id.Port) == s.n.cfg.Port:
		return api.BadRequest(fmt.Sprintf("port %d is that of weave itself", id.Port))
	}
	return nil
}

// change makes list the services. added is one whose targets have to make sense;
// if they do not, all is as before.
func (s *portServices) change(ctx context.Context, list []api.PortService, added *api.PortService) ([]string, error) {
	before := s.saved.List
	s.saved.List = list
	var warnings []string
	err := s.save()
	if err == nil {
		err = s.settle(ctx)
	}
	if err == nil && added != nil {
		warnings, err = s.judge(*added)
	}
	if err == nil {
		return warnings, nil
	}
	s.saved.List = before
	if again := s.save(); again != nil {
		s.n.log.Warn("the services before could not be saved", "err", again)
	}
	if again := s.settle(ctx); again != nil {
		s.n.log.Warn("the services before could not be restored", "err", again)
	}
	return nil, err
}

// judge tells who has just asked for a service why it could lead nowhere, now or
// at all.
func (s *portServices) judge(added api.PortService) (warnings []string, err error) {
	exposed := s.n.exposedAddresses()
	if len(exposed) == 0 {
		return nil, api.BadRequest("this host has no address on the network, which services need: 'weave expose' first")
	}
	shown := s.ListServices()
	answers := func(text string) bool { // at one of its addresses at least
		return slices.ContainsFunc(shown, func(t api.ServiceTarget) bool { return t.Target == text && t.State == stateUp })
	}
	for _, t := range shown {
		if (t.Kind == kindImport) != (added.Name != "") || t.At != atOf(added) || t.Proto != added.Proto {
			continue
		}
		to, err := netip.ParseAddrPort(t.Address)
		switch {
		case err != nil:
			warnings = append(warnings, fmt.Sprintf("target %s has no address now", t.Target))
		case t.Kind == kindExport && !slices.ContainsFunc(exposed, func(p netip.Prefix) bool { return p.Masked().Contains(to.Addr()) }):
			return nil, api.BadRequest(fmt.Sprintf("target %s is in no subnet that this host is in: 'weave expose net:SUBNET' first", t.Target))
		case t.State == stateDown && !answers(t.Target):
			warnings = append(warnings, fmt.Sprintf("target %s does not answer at %s now", t.Target, t.Address))
		}
	}
	return warnings, nil
}

func (s *portServices) save() error {
	if len(s.saved.List) == 0 && len(s.saved.Led) == 0 {
		return s.n.store.Delete(keyServices)
	}
	text, err := json.Marshal(s.saved)
	if err != nil {
		return err
	}
	return s.n.store.Update([]store.Save{{Key: keyServices, Value: text}})
}

// settle looks the targets up, tries them, and has the kernel and the catalogue
// agree.
func (s *portServices) settle(ctx context.Context) error {
	states := s.survey(ctx, s.saved.List)
	var shown []api.ServiceTarget
	var led []runtime.Forwarding
	var named []namedAddress
	exposed := s.n.exposedAddresses()
	for i, service := range s.saved.List {
		shown = append(shown, showTargets(service, states[i])...)
		ways, names := waysOf(service, usable(states[i]), exposed)
		led, named = append(led, ways...), append(named, names...)
	}
	s.shown.Store(&shown)
	if !reflect.DeepEqual(led, s.saved.Led) {
		if err := s.lead.Forward(led); err != nil {
			s.saved.Led = nil // whatever of it is led
			return err
		}
		s.saved.Led = led
		if err := s.save(); err != nil {
			return err
		}
	}
	return s.name(ctx, named)
}

// name makes the catalogue have these names of imports and no others.
func (s *portServices) name(ctx context.Context, want []namedAddress) error {
	if s.n.names == nil {
		return nil
	}
	for i := range want {
		want[i].name = dns.Canonical(s.n.cfg.Names.Domain.Qualify(want[i].name))
	}
	for _, had := range s.named {
		if !slices.Contains(want, had) {
			if err := s.n.names.unregister(ctx, serviceIdent, had.name, had.addr); err != nil {
				return err
			}
		}
	}
	for _, one := range want {
		if slices.Contains(s.named, one) {
			continue
		}
		list := []netip.Prefix{netip.PrefixFrom(one.addr, one.addr.BitLen())}
		if err := s.n.names.registerAll(ctx, serviceIdent, []string{one.name}, list); err != nil {
			return err
		}
	}
	s.named = want
	return nil
}

// exposedAddresses are the host's on the network, of both families.
func (n *node) exposedAddresses() []netip.Prefix {
	n.exposure.mu.Lock()
	defer n.exposure.mu.Unlock()
	r := record{Places: n.exposure.what.Places}
	return n.dual(r.addresses())
}
