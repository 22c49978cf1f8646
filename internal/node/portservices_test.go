package node

import (
	"fmt"
	"net/netip"
	"testing"

	"weave/internal/api"
)

func states(list ...string) []targetState {
	var out []targetState
	for i := 0; i < len(list); i += 2 {
		at, _ := netip.ParseAddrPort(list[i]) // "-" is none
		out = append(out, targetState{text: "t", at: at, state: list[i+1]})
	}
	return out
}

func TestUsable(t *testing.T) {
	for want, from := range map[string][]targetState{
		"[]":                        states("-", "down"),
		"[10.0.0.1:1]":              states("10.0.0.1:1", "up", "10.0.0.2:1", "down"),
		"[10.0.0.1:1 10.0.0.2:1]":   states("10.0.0.1:1", "unknown", "10.0.0.2:1", "up", "-", "down"),
		"[10.0.0.1:1 [fd00::1]:1]":  states("10.0.0.1:1", "down", "[fd00::1]:1", "down"), // a wrong guess cuts nobody off
		"[10.0.0.10:1 10.0.0.11:1]": states("10.0.0.10:1", "up", "10.0.0.11:1", "up"),
	} {
		if got := fmt.Sprint(usable(from)); got != want {
			t.Errorf("%v: %s, want %s", from, got, want)
		}
	}
}

func names(list []namedAddress) string {
	out := []string{}
	for _, n := range list {
		out = append(out, n.name+" "+n.addr.String())
	}
	return fmt.Sprint(out)
}

// Which ports are led, and which names there are, for what a user asked.
func TestWaysOf(t *testing.T) {
	targets := []netip.AddrPort{netip.MustParseAddrPort("10.32.0.5:80"), netip.MustParseAddrPort("[fd00::5]:80")}
	exposed := []netip.Prefix{netip.MustParsePrefix("10.32.0.1/12"), netip.MustParsePrefix("fd00::1/108")}
	for _, c := range []struct{ service, led, named string }{
		{"8080", "[{tcp 0.0.0.0:8080 [10.32.0.5:80]} {tcp [::]:8080 [[fd00::5]:80]}]", "[]"},
		{"192.168.1.1:53/udp", "[{udp 192.168.1.1:53 [10.32.0.5:80]}]", "[]"},
		{"[::]:8080", "[{tcp [::]:8080 [[fd00::5]:80]}]", "[]"},
		{"web", "[{tcp 10.32.0.1:80 [10.32.0.5:80]} {tcp [fd00::1]:80 [[fd00::5]:80]}]", "[web 10.32.0.1 web fd00::1]"},
		{"web:81", "[{tcp 10.32.0.1:81 [10.32.0.5:80]} {tcp [fd00::1]:81 [[fd00::5]:80]}]", "[web 10.32.0.1 web fd00::1]"},
	} {
		id, err := api.ParseServiceID(c.service)
		if err != nil {
			t.Fatal(err)
		}
		led, named := waysOf(api.PortService{ServiceID: id, Targets: []string{"x:80"}}, targets, exposed)
		if fmt.Sprint(led) != c.led || names(named) != c.named {
			t.Errorf("%s: %v %v, want %s %s", c.service, led, named, c.led, c.named)
		}
	}
	led, named := waysOf(api.PortService{ServiceID: api.ServiceID{Proto: "tcp", Name: "web"}, Targets: []string{"x:80"}}, targets[:1], exposed)
	if len(led) != 1 || len(named) != 1 {
		t.Errorf("a service without IPv6 targets has a name and a port for IPv6: %v %v", led, named)
	}
}

// One failure of a target that answered is an accident, two are not; one success is enough to be back.
func TestHealth(t *testing.T) {
	h := newHealth(&node{})
	at := destination{at: netip.MustParseAddrPort("127.0.0.1:1")} // refused at once
	h.try(t.Context(), []destination{at})
	if h.stateOf(at) != stateDown {
		t.Error("never seen, and not down")
	}
	h.failed[at] = 0 // it answered
	for i, want := range []string{stateUp, stateDown, stateDown} {
		h.try(t.Context(), []destination{at})
		if got := h.stateOf(at); got != want {
			t.Errorf("after %d failures it is %s", i+1, got)
		}
	}
	h.try(t.Context(), nil)
	if len(h.failed) != 0 {
		t.Error("targets that nobody wants are remembered")
	}
}
