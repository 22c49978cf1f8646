package netnstests

import (
	"fmt"
	"strings"
	"testing"

	"weave/netns-tests/lab"
)

// Through the proxy containers of two hosts reach each other by name at once, and everything else is as without it.
func TestDockerProxy(t *testing.T) {
	ms := dockers(t, 2)
	one, two := ms[0], ms[1]
	if got := good(t, one.Weave("env")); got != "export DOCKER_HOST=unix:///run/weave/weave.sock ORIG_DOCKER_HOST=" {
		t.Errorf("env: %q", got)
	}
	good(t, one.Proxied("run", "-d", "--name", "web", lab.ImageName))
	addr := address(t, one, "web")
	names(t, two, "web", addr)
	out := good(t, two.Proxied("run", "--rm", "--name", "cli", lab.ImageName, "sh", "-c",
		"ping -c1 -W5 "+addr+" && nslookup web.weave.local && cat /etc/hosts /etc/resolv.conf && hostname && cat /proc/1/cmdline"))
	for _, want := range []string{"1 packets received", addr, "cli.weave.local cli", "search weave.local", "\ncli\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "/w/w") {
		t.Errorf("the shim is still there:\n%s", out)
	}
	t.Run("exec", func(t *testing.T) {
		if r := one.Proxied("exec", "web", "sh", "-c", "echo out; echo err >&2; exit 7"); r.RC != 7 || r.Stdout != "out\n" || r.Stderr != "err\n" {
			t.Error(r)
		}
		r := one.RunEnv(nil, "some input", "docker", "-H", "unix:///run/weave/weave.sock", "exec", "-i", "web", "cat")
		if r.RC != 0 || r.Stdout != "some input" {
			t.Error(r)
		}
	})
	t.Run("streams", func(t *testing.T) {
		r := one.RunEnv(nil, "some input", "docker", "-H", "unix:///run/weave/weave.sock", "run", "--rm", "-i", lab.ImageName, "cat")
		if r.RC != 0 || r.Stdout != "some input" {
			t.Error(r)
		}
		good(t, one.Proxied("run", "--name", "talker", lab.ImageName, "sh", "-c", "for i in $(seq 1000); do echo line $i; done"))
		if got := good(t, one.Proxied("logs", "talker")); strings.Count(got, "\n") != 999 {
			t.Errorf("logs has %d lines", strings.Count(got, "\n")+1)
		}
		if got := good(t, one.Proxied("cp", "talker:/etc/passwd", "-")); !strings.Contains(got, "root:x:0:0") {
			t.Errorf("cp gave %q", got)
		}
		if got := good(t, one.Proxied("export", "talker")); len(got) < 1<<20 {
			t.Errorf("export gave %d bytes", len(got))
		}
		eventually(t, soon, func() error { // Docker tells only of whole seconds that are over
			if got := good(t, one.Proxied("events", "--since", "1h", "--until", "0s", "--filter", "event=die")); !strings.Contains(got, "name=talker") {
				return fmt.Errorf("events: %q", got)
			}
			return nil
		})
	})
	t.Run("import", func(t *testing.T) {
		image, err := lab.Image()
		must(t, err)
		good(t, one.RunEnv(nil, string(image), "docker", "-H", "unix:///run/weave/weave.sock", "import", "--change", `ENTRYPOINT ["echo"]`, "--change", `CMD ["a"]`, "-", "echoes"))
		if got := good(t, one.Proxied("run", "--rm", "echoes")); got != "a" {
			t.Errorf("entrypoint and command of the image gave %q", got)
		}
		if got := good(t, one.Proxied("run", "--rm", "echoes", "b", "c")); got != "b c" {
			t.Errorf("a command gave %q", got)
		}
		if got := good(t, one.Proxied("run", "--rm", "--entrypoint", "hostname", "--hostname", "mine", "echoes")); got != "mine" {
			t.Errorf("another entrypoint gave %q", got)
		}
		good(t, one.Proxied("commit", "web", "committed"))
		good(t, one.Proxied("run", "--rm", "committed", "true"))
	})
	t.Run("refused", func(t *testing.T) { proxyRefusals(t, one) })
	t.Run("stopped", func(t *testing.T) {
		good(t, one.Weave("stop"))
		bad(t, one.Proxied("ps"), "Cannot connect")
		r := one.Docker("run", "--rm", "-e", "WEAVE_WAIT=1s", "-v", "/var/lib/weave/w:/w:ro", "--entrypoint", "/w/w", lab.ImageName, "true")
		if r.RC != 1 || !strings.Contains(r.Stderr, "Is weave running on this host?") {
			t.Error(r)
		}
	})
}

// proxyRefusals: what cannot be, and what is none of weave's.
func proxyRefusals(t *testing.T, m *lab.Machine) {
	bad(t, m.Proxied("run", "--rm", "-e", "WEAVE_CIDR=10.2.1.1/33", lab.ImageName, "true"), "invalid address")
	if got := good(t, m.Proxied("run", "--rm", "-e", "WEAVE_CIDR=none", lab.ImageName, "ip", "-o", "link")); strings.Contains(got, "ethwe") {
		t.Errorf("WEAVE_CIDR=none gave %q", got)
	}
	good(t, m.Proxied("run", "--rm", "--net", "host", lab.ImageName, "true"))
	if got := good(t, m.Proxied("run", "--rm", "--net", "container:web", lab.ImageName, "ip", "-o", "link")); !strings.Contains(got, "ethwe") {
		t.Errorf("a namespace that is shared has %q", got)
	}
	if r := m.Proxied("run", "--rm", lab.ImageName, "/nonexistent"); r.RC != 127 || !strings.Contains(r.Stderr, "cannot run /nonexistent") {
		t.Error(r)
	}
	good(t, m.Docker("run", "-d", "--name", "hostnet", "--net", "host", lab.ImageName))
	bad(t, m.Weave("attach", "hostnet"), "perhaps the container was started with --net=host")
	good(t, m.Docker("create", "--name", "still", lab.ImageName))
	bad(t, m.Weave("attach", "still"), "not running")
	bad(t, m.Weave("attach", "nobody"), "unable to inspect container nobody")
	bad(t, m.Weave("attach", "--add-host", "x:y", "web"), "invalid host")
}

// A container that starts again has its addresses and names again, however it was attached and whoever started it, also
// when weave or the engine was down meanwhile.
func TestDockerRestarts(t *testing.T) {
	m := dockers(t, 1)[0]
	good(t, m.Proxied("run", "-d", "--name", "proxied", "--restart", "always", lab.ImageName))
	good(t, m.Docker("run", "-d", "--name", "env", "--restart", "always", "--net", "none", "-e", "WEAVE_CIDR=10.2.1.5/24 net:default", lab.ImageName))
	good(t, m.Docker("run", "-d", "--name", "label", "--restart", "always", "--net", "none", "--label", "weave.cidr=net:default", lab.ImageName))
	good(t, m.Docker("run", "-d", "--name", "attached", "--restart", "always", "--net", "none", lab.ImageName))
	good(t, m.Weave("attach", "10.2.1.6/24", "attached"))
	good(t, m.Weave("dns-add", "attached", "-h", "extra.weave.local"))
	all := []string{"proxied", "env", "label", "attached"}
	before := map[string]string{}
	for _, c := range all {
		before[c] = shown(t, m, c)
	}
	same := func(how string) {
		t.Helper()
		for _, c := range all {
			eventually(t, settle, func() error {
				if got := shown(t, m, c); got != before[c] {
					return fmt.Errorf("after %s %s has %s, not %s", how, c, got, before[c])
				}
				return nil
			})
		}
		names(t, m, "extra", "10.2.1.6")
		if len(all) == 4 {
			names(t, m, "label", address(t, m, "label"))
		}
	}
	same("nothing")
	good(t, m.Docker(append([]string{"restart", "-t", "0"}, all...)...))
	same("docker restart")
	for _, c := range all { // Docker does not start again what it was told to kill
		pid := good(t, m.Docker("inspect", "-f", "{{.State.Pid}}", c))
		good(t, m.Run("kill", "-9", pid))
	}
	same("kill -9 of the containers")
	must(t, m.KillDocker(), m.StartDocker())
	same("kill -9 of dockerd")
	good(t, m.Weave("stop"))
	good(t, m.Docker(append([]string{"restart", "-t", "0"}, all[1:]...)...))
	good(t, m.Weave("launch"))
	same("docker restart while weave was down")
	must(t, m.Crash(), m.Boot(), m.StartDocker())
	good(t, m.Weave("launch"))
	same("a crash of the host")
	good(t, m.Docker("rm", "-f", "label"))
	all = all[:2]
	eventually(t, settle, func() error {
		if got := m.Weave("dns-lookup", "label").Stdout; got != "" {
			return fmt.Errorf("a removed container still has the address %s", got)
		}
		return nil
	})
	same("another was removed")
}

// A subnet of 14 addresses serves any number of containers, one after the other.
func TestDockerShortLives(t *testing.T) {
	m := dockers(t, 1)[0]
	script := `for i in $(seq 50); do
		docker -H unix:///run/weave/weave.sock run --rm -e WEAVE_CIDR=net:10.40.0.0/28 ` + lab.ImageName + ` true || exit 1
	done`
	good(t, m.Run("sh", "-c", script))
	eventually(t, settle, func() error {
		if got := good(t, m.Weave("ps")); got != "" {
			return fmt.Errorf("still attached: %s", got)
		}
		return nil
	})
}

// Engines may come after weave, go and come back: weave says so, and misses nothing.
func TestEnginesComeAndGo(t *testing.T) {
	needs(t, "dockerd", "docker", "busybox")
	m := machines(t, 1)[0]
	good(t, m.Weave("launch", "--runtime=docker"))
	status := func(want string) {
		t.Helper()
		eventually(t, settle, func() error {
			if got := m.Weave("status").Stdout; !strings.Contains(got, want) {
				return fmt.Errorf("no %q in\n%s", want, got)
			}
			return nil
		})
	}
	status("Docker: not reachable at unix:///var/run/docker.sock")
	bad(t, m.Weave("attach", "cc"), "docker is not reachable")
	must(t, m.StartDocker(), m.Import("docker", lab.ImageName, `CMD ["sh","-c","while sleep 1; do :; done"]`))
	status(" at unix:///var/run/docker.sock")
	good(t, m.Docker("run", "-d", "--name", "cc", "--net", "none", "--label", "weave=true", lab.ImageName))
	had := shown(t, m, "cc")
	must(t, m.StopDocker())
	status("Docker: not reachable")
	must(t, m.StartDocker())
	good(t, m.Docker("start", "cc"))
	if got := shown(t, m, "cc"); got != had {
		t.Errorf("%q became %q", had, got)
	}
	good(t, m.Docker("rm", "-f", "cc"))
}
