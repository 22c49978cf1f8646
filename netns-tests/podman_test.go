package netnstests

import (
	"fmt"
	"strings"
	"testing"

	"weave/netns-tests/lab"
)

// podmans makes machines with Podman, its hook, and weave, joined.
func podmans(t *testing.T, n int) []*lab.Machine {
	t.Helper()
	needs(t, "podman", "runc", "busybox")
	all := machines(t, n)
	for i, m := range all {
		must(t, m.Import("podman", lab.ImageName, `CMD ["sh","-c","while sleep 1; do :; done"]`))
		var to []string
		if i > 0 {
			to = []string{all[0].Host.IP}
		}
		good(t, m.Weave(append([]string{"launch"}, to...)...))
		if got := good(t, m.Weave("setup-podman")); !strings.Contains(got, "weave.json") {
			t.Errorf("setup-podman printed %q", got)
		}
	}
	return all
}

// Without a proxy and without Podman's service: the hook attaches before the process starts.
func TestPodmanHook(t *testing.T) {
	ms := podmans(t, 2)
	one, two := ms[0], ms[1]
	good(t, one.Podman("run", "-d", "--name", "web", "--network", "none", "--label", "weave.cidr=net:default", lab.ImageName))
	f := strings.Fields(good(t, one.Weave("ps")))
	if len(f) < 3 {
		t.Fatalf("ps shows %q", f)
	}
	addr, _, _ := strings.Cut(f[2], "/")
	names(t, two, "web", addr)
	out := good(t, two.Podman("run", "--rm", "--network", "none", "--cap-add", "NET_RAW", "--annotation", "weave=true", lab.ImageName, "sh", "-c",
		"ping -c1 -W5 "+addr+"; nslookup web; cat /etc/resolv.conf"))
	for _, want := range []string{"1 packets received", "search weave.local", "Address: " + addr} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out := good(t, two.Podman("run", "--rm", "--network", "none", lab.ImageName, "ip", "-o", "link")); strings.Contains(out, "ethwe") {
		t.Errorf("a container that asks for nothing has\n%s", out)
	}
	bad(t, two.Podman("run", "--rm", "--network", "none", "--label", "weave.cidr=10.2.1.1/33", lab.ImageName, "true"), "weave: addresses of")
	bad(t, two.Podman("run", "--rm", "--network", "host", "--label", "weave=true", lab.ImageName, "true"), "--net=host")
	had := strings.Fields(good(t, one.Weave("ps")))[1:]
	good(t, one.Podman("restart", "-t", "0", "web"))
	if got := strings.Fields(good(t, one.Weave("ps")))[1:]; fmt.Sprint(got) != fmt.Sprint(had) {
		t.Errorf("a restart made %v of %v", got, had)
	}
	t.Run("pod", func(t *testing.T) {
		good(t, one.Podman("pod", "create", "--name", "pod", "--infra-image", lab.ImageName, "--infra-command", "sleep 1000000"))
		good(t, one.Podman("run", "-d", "--pod", "pod", "--name", "first", "--label", "weave=true", lab.ImageName))
		good(t, one.Podman("run", "-d", "--pod", "pod", "--name", "second", "--label", "weave=true", lab.ImageName))
		if got := strings.Count(good(t, one.Weave("ps")), "\n"); got != 1 {
			t.Errorf("a pod of two is attached %d times", got)
		}
		good(t, one.Podman("rm", "-f", "-t", "0", "first"))
		out := good(t, one.Podman("exec", "second", "ip", "-4", "-o", "addr", "show", "ethwe"))
		if !strings.Contains(out, "inet") {
			t.Errorf("the second lost its network with the first: %q", out)
		}
	})
	good(t, two.Weave("stop"))
	bad(t, two.Podman("run", "--rm", "--network", "none", "--label", "weave=true", lab.ImageName, "true"), "weave is not running")
	good(t, two.Podman("run", "--rm", "--network", "none", lab.ImageName, "true"))
	good(t, two.Weave("setup-podman", "--all"))
	good(t, two.Podman("run", "--rm", "--network", "none", lab.ImageName, "true"))
	good(t, two.Weave("launch"))
	if out := good(t, two.Podman("run", "--rm", "--network", "none", lab.ImageName, "ip", "-o", "link")); !strings.Contains(out, "ethwe") {
		t.Errorf("with --all a container has\n%s", out)
	}
	good(t, two.Weave("setup-podman", "--remove"))
	if out := good(t, two.Podman("run", "--rm", "--network", "none", lab.ImageName, "ip", "-o", "link")); strings.Contains(out, "ethwe") {
		t.Errorf("without the hook a container has\n%s", out)
	}
}

// By its service: containers are known by name, and attached again when they start again.
func TestPodmanService(t *testing.T) {
	needs(t, "podman", "runc", "busybox")
	m := machines(t, 1)[0]
	must(t, m.Import("podman", lab.ImageName, `CMD ["sh","-c","while sleep 1; do :; done"]`), m.StartPodman())
	good(t, m.Weave("launch", "--runtime=podman"))
	good(t, m.Podman("run", "-d", "--name", "c", "--network", "none", lab.ImageName))
	eventually(t, settle, func() error {
		if r := m.Weave("attach", "10.2.1.7/24", "c"); r.RC != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	had := shown(t, m, "c")
	good(t, m.Podman("restart", "-t", "0", "c"))
	eventually(t, settle, func() error {
		if got := shown(t, m, "c"); got != had {
			return fmt.Errorf("%q became %q", had, got)
		}
		return nil
	})
	must(t, m.KillPodman(), m.StartPodman())
	good(t, m.Podman("restart", "-t", "0", "c"))
	eventually(t, settle, func() error {
		if got := shown(t, m, "c"); got != had {
			return fmt.Errorf("%q became %q", had, got)
		}
		return nil
	})
	if got := good(t, m.Podman("exec", "c", "ip", "-4", "-o", "addr", "show", "ethwe")); !strings.Contains(got, "10.2.1.7/24") {
		t.Errorf("inside there is %q", got)
	}
	good(t, m.Podman("rm", "-f", "-t", "0", "c"))
}

// An ordinary user's Podman and an ordinary user's weave on two machines: the hook, modes of user namespaces, names, and
// what starts again.
func TestRootlessPodman(t *testing.T) {
	needs(t, "podman", "runc", "busybox", "newuidmap", "slirp4netns")
	ms := machines(t, 2)
	image, err := lab.Image()
	must(t, err)
	for i, m := range ms {
		good(t, m.AsUserWith(string(image), "podman", "import", "-q", "--change", `CMD ["sh","-c","while sleep 1; do :; done"]`, "-", lab.ImageName))
		var to []string
		if i > 0 {
			to = []string{ms[0].Host.IP}
		}
		good(t, m.WeaveAsUser(append([]string{"launch", "--http-addr", "", "--status-addr", ""}, to...)...))
		good(t, m.WeaveAsUser("setup-podman"))
	}
	one, two := ms[0], ms[1]
	podman := func(m *lab.Machine, args ...string) lab.Result {
		return m.AsUser(append([]string{"podman"}, args...)...)
	}
	good(t, podman(one, "run", "-d", "--name", "web", "--network", "none", "--label", "weave=true", lab.ImageName))
	had := good(t, one.WeaveAsUser("ps"))
	f := strings.Fields(had)
	if len(f) < 3 {
		t.Fatalf("ps shows %q", had)
	}
	addr, _, _ := strings.Cut(f[2], "/")
	eventually(t, settle, func() error {
		if got := strings.TrimSpace(two.WeaveAsUser("dns-lookup", "web").Stdout); got != addr {
			return fmt.Errorf("web is %q", got)
		}
		return nil
	})
	for name, mode := range map[string][]string{
		"none": {"--network", "none"}, "slirp": nil, "keep-id": {"--network", "none", "--userns", "keep-id", "--user", "0"},
		"auto": {"--network", "none", "--userns", "auto"},
	} {
		args := append([]string{"run", "--rm", "--cap-add", "NET_RAW", "--label", "weave.cidr=net:default"}, mode...)
		out := good(t, podman(two, append(args, lab.ImageName, "sh", "-c", "ping -c1 -W5 "+addr+"; nslookup web.weave.local")...))
		if !strings.Contains(out, "1 packets received") || !strings.Contains(out, "Address: "+addr) {
			t.Errorf("%s:\n%s", name, out)
		}
	}
	good(t, podman(two, "pod", "create", "--name", "pod", "--network", "none", "--infra-image", lab.ImageName, "--infra-command", "sleep 1000000"))
	for _, name := range []string{"first", "second"} {
		good(t, podman(two, "run", "-d", "--pod", "pod", "--name", name, "--cap-add", "NET_RAW", "--label", "weave=true", lab.ImageName))
	}
	if got := good(t, two.WeaveAsUser("ps")); strings.Contains(got, "\n") || !strings.Contains(got, "/") {
		t.Errorf("a pod of two is attached as\n%s", got)
	}
	good(t, podman(two, "rm", "-f", "-t", "0", "first"))
	if out := good(t, podman(two, "exec", "second", "ping", "-c1", "-W5", addr)); !strings.Contains(out, "1 packets received") {
		t.Errorf("the second of a pod lost its network with the first:\n%s", out)
	}
	good(t, podman(two, "pod", "rm", "-f", "-t", "0", "pod"))
	good(t, podman(one, "restart", "-t", "0", "web"))
	if got := good(t, one.WeaveAsUser("ps")); got != had {
		t.Errorf("a restart made %q of %q", got, had)
	}
	good(t, one.WeaveAsUser("stop"))
	good(t, one.WeaveAsUser("launch", "--http-addr", "", "--status-addr", ""))
	if got := good(t, one.WeaveAsUser("ps")); got != had {
		t.Errorf("a relaunch made %q of %q", got, had)
	}
	good(t, podman(one, "rm", "-f", "-t", "0", "web"))
	if got := good(t, one.WeaveAsUser("ps")); got != "" {
		t.Errorf("what was removed is still attached: %q", got)
	}
}
