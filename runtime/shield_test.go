package runtime

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var here = netip.MustParseAddr("192.0.2.1")

// there is one of a few peers.
func there(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}) }

// kernelShields is a kernel as far as PlanShields knows it, with the oracle's questions.
type kernelShields struct {
	t        *rapid.T
	policies map[ShieldPolicy]bool
	states   map[ShieldState]bool
}

func (k *kernelShields) seen() ShieldsSeen {
	var s ShieldsSeen
	for p := range k.policies {
		s.Policies = append(s.Policies, p)
	}
	for st := range k.states {
		s.States = append(s.States, st)
	}
	return s
}

// step does a step as the kernel would: what is there cannot be added, what is not cannot be removed.
func (k *kernelShields) step(s ShieldStep) {
	switch s.Op {
	case AddPolicy, RemovePolicy:
		if k.policies[s.Policy] != (s.Op == RemovePolicy) {
			k.t.Fatalf("%s is refused", s)
		}
		k.policies[s.Policy] = s.Op == AddPolicy
		if s.Op == RemovePolicy {
			delete(k.policies, s.Policy)
		}
	default:
		if k.states[s.State] != (s.Op == RemoveState) {
			k.t.Fatalf("%s is refused", s)
		}
		k.states[s.State] = true
		if s.Op == RemoveState {
			delete(k.states, s.State)
		}
	}
}

// guarded tells that both policies for a peer are there.
func (k *kernelShields) guarded(peer netip.Addr, port uint16) bool {
	return k.policies[ShieldPolicy{peer, port, Inward}] && k.policies[ShieldPolicy{peer, port, Outward}]
}

func (k *kernelShields) count(to func(ShieldState) bool) int {
	n := 0
	for s := range k.states {
		if to(s) {
			n++
		}
	}
	return n
}

func drawShields(t *rapid.T, label string) []Shield {
	var out []Shield
	for n := range 3 {
		if !rapid.Bool().Draw(t, label+" wants the peer") {
			continue
		}
		s := Shield{Local: here, Peer: there(n)}
		for range rapid.IntRange(0, 3).Draw(t, label+" generations") {
			s.In = append(s.In, ESPKey{SPI: rapid.Uint32Range(256, 260).Draw(t, "spi in")})
		}
		slices.SortFunc(s.In, func(a, b ESPKey) int { return int(a.SPI) - int(b.SPI) })
		s.In = slices.Compact(s.In)
		if rapid.Bool().Draw(t, label+" seals") {
			s.Out = &ESPKey{SPI: rapid.Uint32Range(300, 303).Draw(t, "spi out")}
		}
		out = append(out, s)
	}
	return out
}

// From any state of ours in the kernel to any wish, on one port or another: nothing that a shield before and after guards is
// unguarded in between, a state never lives without the policies that make it necessary, traffic that has keys before
// and after has them all the time, and in the end there is what is wanted and nothing else.
func TestPlanShields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := &kernelShields{t: t, policies: map[ShieldPolicy]bool{}, states: map[ShieldState]bool{}}
		before, after := drawShields(t, "before"), drawShields(t, "after")
		const port = 6784
		for _, s := range PlanShields(port, before, k.seen()) {
			k.step(s)
		}
		seals := map[netip.Addr]bool{}
		for _, s := range before {
			seals[s.Peer] = s.Out != nil
		}
		for _, s := range PlanShields(port, after, k.seen()) {
			k.step(s)
			k.check(before, after, seals)
		}
		if left := PlanShields(port, after, k.seen()); len(left) > 0 {
			t.Fatalf("left to do: %v", left)
		}
		wanted := 0
		for _, s := range after {
			wanted += len(s.In)
			if s.Out != nil {
				wanted++
			}
		}
		if len(k.policies) != 2*len(after) || len(k.states) != wanted {
			t.Fatalf("%d policies and %d states for %d shields with %d keys", len(k.policies), len(k.states), len(after), wanted)
		}
		for _, s := range PlanShields(port, nil, k.seen()) {
			k.step(s)
		}
		if len(k.policies)+len(k.states) > 0 {
			t.Fatalf("left: %v", k.seen())
		}
	})
}

func (k *kernelShields) check(before, after []Shield, seals map[netip.Addr]bool) {
	for _, s := range after {
		was := slices.ContainsFunc(before, func(b Shield) bool { return b.Peer == s.Peer })
		if was && !k.guarded(s.Peer, 6784) {
			k.t.Fatalf("%v is not guarded", s.Peer)
		}
		outward := func(st ShieldState) bool { return st.To == s.Peer }
		if was && seals[s.Peer] && s.Out != nil && k.count(outward) == 0 {
			k.t.Fatalf("nothing seals for %v", s.Peer)
		}
	}
	for s := range k.states {
		if !k.guarded(s.To, 6784) && !k.guarded(s.From, 6784) {
			k.t.Fatalf("state %v without its policies", s)
		}
	}
}

// A step tells what it is about, and nothing of the key.
func TestShieldStepText(t *testing.T) {
	s := ShieldStep{Op: AddState, State: ShieldState{here, there(1), 0x1234}, Key: [ESPKeyLen]byte{1, 2, 3}}
	if got, want := s.String(), "add state 192.0.2.1 → 198.51.100.1 0x00001234"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s = ShieldStep{Op: RemovePolicy, Policy: ShieldPolicy{there(1), 6784, Inward}}
	if got, want := s.String(), "remove policy in 198.51.100.1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A shield is between two hosts of a network.
func TestShieldValid(t *testing.T) {
	for text, ok := range map[[2]string]bool{
		{"192.0.2.1", "192.0.2.2"}: true, {"2001:db8::1", "2001:db8::2"}: true, {"fe80::1", "fe80::2"}: true,
		{"192.0.2.1", "192.0.2.1"}: false, {"127.0.0.1", "127.0.0.2"}: false, {"192.0.2.1", "2001:db8::2"}: false,
		{"0.0.0.0", "192.0.2.2"}: false, {"192.0.2.1", "224.0.0.1"}: false, {"::ffff:192.0.2.1", "::ffff:192.0.2.2"}: false,
		{"fe80::1%eth0", "fe80::2%eth0"}: false,
	} {
		s := Shield{Local: netip.MustParseAddr(text[0]), Peer: netip.MustParseAddr(text[1])}
		if err := s.Valid(); (err == nil) != ok {
			t.Errorf("%v: %v", text, err)
		}
	}
	if (Shield{}).Valid() == nil {
		t.Error("nothing is valid")
	}
}

// A daemon that comes back goes on with the states that it finds, until it has keys itself; what sealed until now stays a moment.
func TestAdopt(t *testing.T) {
	policies := []ShieldPolicy{{there(1), 6784, Outward}, {there(1), 6784, Inward}}
	in, out, other := ShieldState{there(1), here, 300}, ShieldState{here, there(1), 400}, ShieldState{there(1), there(9), 500}
	seen := ShieldsSeen{Policies: policies, States: []ShieldState{in, out, other}}
	drop := func(s ShieldState, peer netip.Addr) ShieldStep {
		return ShieldStep{Op: RemoveState, Peer: peer, State: s}
	}
	gone := drop(other, there(1)) // of an address that we do not have any more
	for _, c := range []struct {
		name string
		s    Shield
		want []ShieldStep
	}{
		{"adopts", Shield{Adopt: true}, []ShieldStep{gone}},
		{"does not", Shield{}, []ShieldStep{drop(out, there(1)), drop(in, there(1)), gone}},
		{"has keys to open with", Shield{Adopt: true, In: []ESPKey{{SPI: 301}}}, []ShieldStep{
			{Op: AddState, Peer: there(1), State: ShieldState{there(1), here, 301}}, gone,
		}},
		{"has a key to seal with", Shield{Adopt: true, Out: &ESPKey{SPI: 401}}, []ShieldStep{
			{Op: AddState, Peer: there(1), State: ShieldState{here, there(1), 401}}, gone,
		}},
		{"keeps what sealed until now, and adds nothing of it", Shield{Out: &ESPKey{SPI: 401}, Spent: []ESPKey{{SPI: 399}, {SPI: 400}}}, []ShieldStep{
			{Op: AddState, Peer: there(1), State: ShieldState{here, there(1), 401}}, drop(in, there(1)), gone,
		}},
	} {
		c.s.Local, c.s.Peer = here, there(1)
		if got := PlanShields(6784, []Shield{c.s}, seen); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
