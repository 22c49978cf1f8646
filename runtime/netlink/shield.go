package netlink

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"time"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

const (
	// espCipher is AES-GCM with the last four bytes of the key as salt, its tag of 128 bits.
	espCipher = "rfc4106(gcm(aes))"
	espTag    = 128
	// espWindow is how far packets may overtake each other: a busy receiver spreads them over its queues.
	espWindow = 2048
	// espLifetime takes away the keys of a daemon that does not come back: long enough to replace it meanwhile.
	espLifetime = 5 * time.Minute
	// espPackets is where session refuses AES-GCM too.
	espPackets = 1 << 32
	// shieldPriority is before that of any policy that others make.
	shieldPriority = 1
	// reqidOfOurs is the first byte of every reqid of ours; the rest is the bridge's.
	reqidOfOurs = 0x77 << 24
)

// xfrm is the kernel's IPsec in one namespace, as far as it is ours.
type xfrm struct {
	*vnl.Handle
	reqid int
}

// openXfrm opens it. The caller closes the handle.
func (s *space) openXfrm(bridge string) (xfrm, error) {
	x := xfrm{reqid: reqidOf(bridge)}
	err := s.run(func() (err error) {
		x.Handle, err = vnl.NewHandle(unix.NETLINK_XFRM)
		return err
	})
	if err == nil {
		err = x.SetSocketTimeout(socketTimeout)
	}
	if err != nil {
		return xfrm{}, fmt.Errorf("open xfrm: %w", err)
	}
	return x, nil
}

// reqidOf tells the states and policies of a daemon, which has its bridge for itself, from all others'.
func reqidOf(bridge string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(bridge))
	return int(reqidOfOurs | h.Sum32()&0xffffff)
}

// Shield makes the policies and states of ours what want says, for the VXLAN packets of a port, and removes all others of
// ours. The order of steps is PlanShields'. Whoever stops to want a Shield must have stopped the traffic before.
//
// Where something of one peer fails, the rest of that peer's steps are not done, so that nothing of it passes, and it is
// among those that are returned with the error.
func (h *Host) Shield(port uint16, want []runtime.Shield) (failed []netip.Addr, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shield(port, want)
}

func (h *Host) shield(port uint16, want []runtime.Shield) (failed []netip.Addr, err error) {
	var errs []error
	want = slices.DeleteFunc(slices.Clone(want), func(s runtime.Shield) bool {
		err := s.Valid()
		if err != nil {
			failed, errs = append(failed, s.Peer), append(errs, err)
		}
		return err != nil
	})
	more, err := h.shieldValid(port, want)
	return append(failed, more...), errors.Join(append(errs, err)...)
}

func (h *Host) shieldValid(port uint16, want []runtime.Shield) (failed []netip.Addr, err error) {
	peers := addressesOf(want)
	x, err := h.space.openXfrm(h.cfg.Bridge)
	if err != nil {
		if len(want) == 0 && missing(err) {
			return nil, nil // what is not there has nothing of ours
		}
		return peers, fmt.Errorf("shield: %w", err)
	}
	defer x.Close()
	seen, err := x.seen()
	if err != nil {
		return peers, fmt.Errorf("shield: %w", err)
	}
	all := slices.Clone(peers)
	for _, p := range seen.Policies {
		all = append(all, p.Peer)
	}
	h.guardShields(port, all)
	failed, err = x.perform(runtime.PlanShields(port, want, seen), port)
	h.guardShields(port, append(peers, failed...))
	return failed, err
}

// removeShields removes all of them.
func (h *Host) removeShields() {
	if _, err := h.shield(0, nil); err != nil {
		h.log.Warn("states of IPsec may be left behind", "err", err)
	}
}

// Shielded lists the peers that there are policies of ours for, as of an earlier daemon.
func (h *Host) Shielded(port uint16) ([]netip.Addr, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x, err := h.space.openXfrm(h.cfg.Bridge)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer x.Close()
	seen, err := x.seen()
	if err != nil {
		return nil, fmt.Errorf("look for shields: %w", err)
	}
	var out []netip.Addr
	for _, p := range seen.Policies {
		if p.Port == port && p.Direction == runtime.Outward && slices.Contains(seen.Policies, runtime.ShieldPolicy{Peer: p.Peer, Port: port, Direction: runtime.Inward}) {
			out = append(out, p.Peer)
		}
	}
	return out, nil
}

func addressesOf(shields []runtime.Shield) []netip.Addr {
	var out []netip.Addr
	for _, s := range shields {
		out = append(out, s.Peer)
	}
	return out
}

func (x xfrm) perform(steps []runtime.ShieldStep, port uint16) (failed []netip.Addr, err error) {
	errs := map[netip.Addr]error{}
	var all []error
	for _, s := range steps {
		if errs[s.Peer] != nil {
			continue
		}
		if err := x.step(s, port); err != nil {
			err = fmt.Errorf("shield: %s: %w", s, err)
			all = append(all, err)
			if s.Peer.IsValid() {
				errs[s.Peer] = err
				failed = append(failed, s.Peer)
			}
		}
	}
	return failed, errors.Join(all...)
}

func (x xfrm) step(s runtime.ShieldStep, port uint16) error {
	var err error
	switch s.Op {
	case runtime.AddPolicy:
		return x.XfrmPolicyAdd(x.policy(s.Policy))
	case runtime.AddState:
		return x.addState(s, port)
	case runtime.RemoveState:
		err = x.XfrmStateDel(x.state(s.State))
	case runtime.RemovePolicy:
		err = x.XfrmPolicyDel(x.policy(s.Policy))
	default:
		err = fmt.Errorf("operation %d", s.Op)
	}
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return nil // it has gone meanwhile
	}
	return err
}

// policy demands a state of ours. It names no address of this host: what would leave from another one than expected finds
// no state, and is dropped rather than sent in clear.
func (x xfrm) policy(p runtime.ShieldPolicy) *vnl.XfrmPolicy {
	any4, any6 := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	all := any4
	if p.Peer.Is6() {
		all = any6
	}
	out := &vnl.XfrmPolicy{
		Src: all, Dst: ipNet(netip.PrefixFrom(p.Peer, p.Peer.BitLen())), Dir: vnl.XFRM_DIR_OUT,
		Proto: unix.IPPROTO_UDP, DstPort: int(p.Port), Priority: shieldPriority, Action: vnl.XFRM_POLICY_ALLOW,
		Tmpls: []vnl.XfrmPolicyTmpl{{Src: all.IP, Dst: all.IP, Proto: vnl.XFRM_PROTO_ESP, Mode: vnl.XFRM_MODE_TRANSPORT, Reqid: x.reqid}},
	}
	if p.Direction == runtime.Inward {
		out.Dir, out.Src, out.Dst = vnl.XFRM_DIR_IN, out.Dst, out.Src
	}
	return out
}

func (x xfrm) state(s runtime.ShieldState) *vnl.XfrmState {
	return &vnl.XfrmState{
		Src: s.From.AsSlice(), Dst: s.To.AsSlice(), Spi: int(s.SPI), Reqid: x.reqid,
		Proto: vnl.XFRM_PROTO_ESP, Mode: vnl.XFRM_MODE_TRANSPORT,
	}
}

// addState adds a state for nothing but VXLAN packets: else whoever has the key could send others through it.
func (x xfrm) addState(s runtime.ShieldStep, port uint16) error {
	state := x.state(s.State)
	state.Aead = &vnl.XfrmStateAlgo{Name: espCipher, Key: s.Key[:], ICVLen: espTag}
	state.ESN, state.ReplayWindow = true, espWindow
	state.Limits = vnl.XfrmStateLimits{TimeHard: uint64(espLifetime / time.Second), PacketHard: espPackets}
	state.Selector = &vnl.XfrmPolicy{
		Src: ipNet(netip.PrefixFrom(s.State.From, s.State.From.BitLen())), Dst: ipNet(netip.PrefixFrom(s.State.To, s.State.To.BitLen())),
		Proto: unix.IPPROTO_UDP, DstPort: int(port),
	}
	return x.XfrmStateAdd(state)
}

// seen lists what is ours: states by their reqid, policies by that of what they demand.
func (x xfrm) seen() (runtime.ShieldsSeen, error) {
	var seen runtime.ShieldsSeen
	for _, family := range []int{vnl.FAMILY_V4, vnl.FAMILY_V6} {
		policies, err := retry(func() ([]vnl.XfrmPolicy, error) { return x.XfrmPolicyList(family) })
		if err != nil {
			return seen, fmt.Errorf("list policies: %w", err)
		}
		for _, p := range policies {
			if ours, ok := x.ours(p); ok {
				seen.Policies = append(seen.Policies, ours)
			}
		}
		states, err := retry(func() ([]vnl.XfrmState, error) { return x.XfrmStateList(family) })
		if err != nil {
			return seen, fmt.Errorf("list states: %w", err)
		}
		for _, s := range states {
			from, okFrom := netip.AddrFromSlice(s.Src)
			to, okTo := netip.AddrFromSlice(s.Dst)
			if okFrom && okTo && uint32(s.Reqid) == uint32(x.reqid) {
				seen.States = append(seen.States, runtime.ShieldState{From: from.Unmap(), To: to.Unmap(), SPI: uint32(s.Spi)})
			}
		}
	}
	return seen, nil
}

func (x xfrm) ours(p vnl.XfrmPolicy) (runtime.ShieldPolicy, bool) {
	if len(p.Tmpls) != 1 || uint32(p.Tmpls[0].Reqid) != uint32(x.reqid) {
		return runtime.ShieldPolicy{}, false
	}
	peer, direction := p.Dst, runtime.Outward
	if p.Dir == vnl.XFRM_DIR_IN {
		peer, direction = p.Src, runtime.Inward
	}
	address, ok := prefix(peer)
	return runtime.ShieldPolicy{Peer: address.Addr(), Port: uint16(p.DstPort), Direction: direction}, ok
}

// SourceTo is the address that packets to a peer leave from.
func (h *Host) SourceTo(peer netip.Addr) (netip.Addr, error) {
	routes, err := h.space.RouteGet(peer.AsSlice())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the route to %v: %w", peer, err)
	}
	for _, r := range routes {
		if a, ok := netip.AddrFromSlice(r.Src); ok {
			return a.Unmap(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("the route to %v says no address", peer)
}

// missing tells that the kernel has no IPsec at all, or does not let us near it.
func missing(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT)
}
