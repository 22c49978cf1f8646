package netnstests

import (
	"fmt"
	"strings"
	"testing"

	"weave/netns-tests/lab"
)

// impostor is a container that may change its network, and what it tries.
type impostor struct {
	exec   func(script string) lab.Result // in the container
	own    string
	victim string // the address of another one, which answers
}

// pingsAs tells whether the victim answers when the container calls itself so.
func (i impostor) pingsAs(t *testing.T, setup, undo, from string) bool {
	t.Helper()
	if r := i.exec(setup); r.RC != 0 {
		t.Fatal(r)
	}
	defer func() {
		if r := i.exec(undo); r.RC != 0 {
			t.Error(r)
		}
	}()
	return i.exec("ping -c1 -W1 -I "+from+" "+i.victim).RC == 0
}

// tries checks what a guard has to keep a container from; without a guard it can.
func (i impostor) tries(t *testing.T, guarded bool) {
	t.Helper()
	eventually(t, settle, func() error {
		if r := i.exec("ping -c1 -W1 " + i.victim); r.RC != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	parts := strings.Split(i.own, ".")
	other := strings.Join(parts[:3], ".") + ".250"
	if got := i.pingsAs(t, "ip addr add "+other+"/12 dev ethwe", "ip addr del "+other+"/12 dev ethwe", other); got == guarded {
		t.Errorf("as another address: %v", got)
	}
	_, mac, _ := strings.Cut(i.exec("ip link show ethwe").Stdout, "link/ether ")
	mac, _, _ = strings.Cut(mac, " ")
	if got := i.pingsAs(t, "ip link set ethwe address 02:11:22:33:44:55", "ip link set ethwe address "+mac, i.own); got == guarded {
		t.Errorf("as another MAC: %v", got)
	}
	eventually(t, settle, func() error { // itself again
		if r := i.exec("ping -c1 -W1 " + i.victim); r.RC != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

// Engines' containers use their own addresses only, unless launch allows it; the guard follows addresses, restarts, flushes and reset.
func TestSpoofDocker(t *testing.T) {
	m := dockers(t, 1)[0]
	start := func(name string, args ...string) string {
		t.Helper()
		all := append([]string{"run", "-d", "--name", name, "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"}, args...)
		good(t, m.Proxied(append(all, lab.ImageName)...))
		return address(t, m, name)
	}
	victim := start("victim")
	evil := impostor{victim: victim, own: start("evil"), exec: func(script string) lab.Result { return m.Docker("exec", "evil", "sh", "-c", script) }}
	evil.tries(t, true)
	if n := good(t, m.Weave("report", "-f", "{{.Spoofed}}")); n == "0" {
		t.Error("nothing was counted")
	}
	// More addresses, and less.
	const more = "10.77.1.9"
	good(t, m.Weave("attach", more+"/24", "evil"))
	good(t, m.Weave("attach", "10.77.1.8/24", "victim"))
	other := impostor{victim: "10.77.1.8", own: more, exec: evil.exec}
	other.tries(t, true)
	good(t, m.Weave("detach", more+"/24", "evil"))
	if r := evil.exec("ip addr add " + more + "/24 dev ethwe; ping -c1 -W1 10.77.1.8"); r.RC == 0 {
		t.Error("an address that was detached can still be used")
	}
	good(t, m.Docker("restart", "-t", "0", "evil"))
	evil.own = address(t, m, "evil")
	evil.tries(t, true)
	good(t, m.Run("nft", "flush", "ruleset"))
	eventually(t, settle, func() error {
		if r := m.Run("nft", "list", "set", "bridge", "weave", "macs"); r.RC != 0 || strings.Count(r.Stdout, "vethwepl") != 2 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	evil.tries(t, true)
	good(t, m.Weave("stop"))
	good(t, m.Weave("launch", "--allow-spoof"))
	evil.own = address(t, m, "evil")
	evil.tries(t, false)
	good(t, m.Weave("stop"))
	good(t, m.Weave("launch"))
	evil.own = address(t, m, "evil")
	evil.tries(t, true)
	t.Run("labels", func(t *testing.T) { policyByLabel(t, m, start) })
	good(t, m.Weave("reset"))
	if text := good(t, m.Run("nft", "list", "ruleset")); strings.Contains(text, "bridge weave") {
		t.Errorf("reset left\n%s", text)
	}
}

// policyByLabel has groups by labels of Docker's.
func policyByLabel(t *testing.T, m *lab.Machine, start func(string, ...string) string) {
	front, data := start("front", "--label", "tier=front"), start("data", "--label", "tier=data")
	good(t, m.Policy("group f label tier=front\ngroup d label tier=data\nallow f -> d icmp\ndefault deny\n"))
	ping := func(from, to string) bool { return m.Docker("exec", from, "ping", "-c1", "-W1", to).RC == 0 }
	if !ping("front", data) {
		t.Errorf("%s", good(t, m.Weave("policy", "status")))
	}
	if ping("data", front) || ping("victim", data) {
		t.Error("what has not the label is not kept away")
	}
	out := m.Weave("policy", "test", "front", "data", "icmp")
	if out.RC != 0 || !strings.Contains(out.Stdout, "icmp is allowed by line 3: allow f -> d icmp") {
		t.Error(out)
	}
	good(t, m.Docker("rename", "front", "other"))
	eventually(t, settle, func() error {
		if r := m.Weave("policy", "test", "other", "data", "icmp"); r.RC != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

// A plain namespace may be a router or a bridge: it is not guarded.
func TestSpoofPlain(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h)
	victim, ip := attached(t, h)
	evil, own := attached(t, h)
	_ = victim
	i := impostor{victim: addressOnly(ip), own: addressOnly(own), exec: func(script string) lab.Result {
		return evil.Run(t.Context(), nil, "", "sh", "-c", script)
	}}
	i.tries(t, false)
}

func addressOnly(cidr string) string {
	ip, _, _ := strings.Cut(cidr, "/")
	return ip
}

// Ordinary users' Podman: the daemon itself keeps containers to their addresses.
func TestSpoofPodmanOfUser(t *testing.T) {
	needs(t, "podman", "runc", "busybox", "newuidmap")
	m := machines(t, 1)[0]
	image, err := lab.Image()
	must(t, err)
	good(t, m.AsUserWith(string(image), "podman", "import", "-q", "--change", `CMD ["sh","-c","while sleep 1; do :; done"]`, "-", lab.ImageName))
	for _, allow := range []bool{false, true} {
		args := []string{"launch", "--http-addr", "", "--status-addr", ""}
		if allow {
			args = append(args, "--allow-spoof")
		}
		good(t, m.WeaveAsUser(args...))
		good(t, m.WeaveAsUser("setup-podman"))
		podman := func(args ...string) lab.Result { return m.AsUser(append([]string{"podman"}, args...)...) }
		for _, name := range []string{"victim", "evil"} {
			good(t, podman("run", "-d", "--name", name, "--network", "none", "--cap-add", "NET_ADMIN,NET_RAW", "--label", "weave=true", lab.ImageName))
		}
		addr := func(name string) string {
			f := strings.Fields(good(t, podman("exec", name, "ip", "-4", "-o", "addr", "show", "ethwe")))
			return addressOnly(f[3])
		}
		i := impostor{victim: addr("victim"), own: addr("evil"), exec: func(script string) lab.Result { return podman("exec", "evil", "sh", "-c", script) }}
		i.tries(t, !allow)
		good(t, podman("rm", "-f", "-t", "0", "victim", "evil"))
		good(t, m.WeaveAsUser("stop"))
	}
}
