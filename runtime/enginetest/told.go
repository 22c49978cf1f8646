package enginetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"weave/runtime"
)

// What an engine tells of containers that are there, or are not.

func inspectByAnyName(b *bench) {
	id := b.sleeper("one")
	b.sleeper("other")
	want := b.inspect("one")
	if want.ID != id || want.Name != "one" || want.Engine != b.Command {
		b.Errorf("id, name, engine: %q, %q, %q; want %q, one, %s", want.ID, want.Name, want.Engine, id, b.Command)
	}
	for _, ref := range []string{id, id[:12]} {
		if got := b.inspect(ref); fmt.Sprint(got) != fmt.Sprint(want) {
			b.Errorf("inspect %s: %+v, want %+v", ref, got, want)
		}
	}
	b.run("rename", "one", "renamed")
	if got := b.inspect("renamed"); got.ID != id || got.Name != "renamed" {
		b.Errorf("after renaming: %+v", got)
	}
}

func settings(b *bench) {
	options := []string{
		"-e", "WEAVE_CIDR=10.2.1.1/24 net:default", "-e", "EMPTY=", "-e", "LINES=a\nb=c",
		"-l", "weave=true", "-l", "weave.name=a b", "-h", "host.sub.example",
	}
	if b.Domain {
		options = append(options, "--domainname", "weave.local")
	}
	b.sleeper("set", options...)
	c := b.inspect("set")
	for name, want := range map[string]string{"WEAVE_CIDR": "10.2.1.1/24 net:default", "EMPTY": "", "LINES": "a\nb=c"} {
		if got, ok := c.Getenv(name); !ok || got != want {
			b.Errorf("environment %s: %q, %v; want %q", name, got, ok, want)
		}
	}
	if c.Labels["weave"] != "true" || c.Labels["weave.name"] != "a b" {
		b.Errorf("labels: %q", c.Labels)
	}
	if c.Hostname != "host.sub.example" {
		b.Errorf("hostname: %q", c.Hostname)
	}
	if b.Domain && c.Domain != "weave.local" {
		b.Errorf("domain: %q", c.Domain)
	}
	plain := b.inspect(b.sleeper("plain"))
	if plain.Hostname != plain.ID[:12] || plain.Domain != "" || plain.Shimmed() {
		b.Errorf("a container without settings: %+v", plain)
	}
}

// entrypoints tests that the words that are run are told, wherever they come from: the shim must be seen.
func entrypoints(b *bench) {
	b.created("command")
	b.run("create", "--name", "both", "--net", "none", "--entrypoint", runtime.ShimPath, b.Image, "sleep", "1000")
	b.run("create", "--name", "image", "--net", "none", b.Image)
	if got := b.inspect("command"); !slices.Equal(got.Entrypoint, []string{"sleep", "1000"}) || got.Shimmed() {
		b.Errorf("entrypoint of a command: %q", got.Entrypoint)
	}
	if got := b.inspect("both"); !slices.Equal(got.Entrypoint, []string{"/w/w", "sleep", "1000"}) || !got.Shimmed() {
		b.Errorf("entrypoint and command: %q", got.Entrypoint)
	}
	if got := b.inspect("image"); len(got.Entrypoint) == 0 || got.Shimmed() {
		b.Errorf("the image's command: %q", got.Entrypoint)
	}
}

// process compares the process, the namespace's path and the files' with what the kernel says.
func process(b *bench) {
	network, err := b.Network("process")
	if err != nil {
		b.Fatal(err)
	}
	for name, options := range map[string][]string{"none": {"--net", "none"}, "network": network} {
		b.sleeper(name, options...)
		c := b.inspect(name)
		if c.PID == 0 || !c.Running {
			b.Errorf("%s: running %v with process %d", name, c.Running, c.PID)
			continue
		}
		inside := b.run("exec", name, "readlink", "/proc/self/ns/net")
		if got := b.host("readlink", fmt.Sprintf("/proc/%d/ns/net", c.PID)); got != inside {
			b.Errorf("%s: the network namespace of process %d is %s, want %s", name, c.PID, got, inside)
		}
		if c.Sandbox != "" {
			if got := "net:[" + b.host("stat", "-c", "%i", c.Sandbox) + "]"; got != inside {
				b.Errorf("%s: %s is %s, want %s", name, c.Sandbox, got, inside)
			}
		}
		for inside, path := range map[string]string{"/etc/hosts": c.HostsPath, "/etc/resolv.conf": c.ResolvPath} {
			if path == "" && inside == "/etc/resolv.conf" { // Podman makes none without a network
				continue
			}
			if got, want := b.host("cat", path), b.run("exec", name, "cat", inside); got != want {
				b.Errorf("%s: %s holds %q, want %q", name, path, got, want)
			}
		}
	}
	b.run("kill", "none")
	b.until("none is told to have ended", func() bool {
		c := b.inspect("none")
		return !c.Running && c.PID == 0 && c.Sandbox == ""
	})
}

func (b *bench) host(argv ...string) string {
	b.Helper()
	out, err := b.Host(argv...)
	if err != nil {
		b.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
	return out
}

func unknown(b *bench) {
	first := map[string]string{}
	prefix := ""
	for i := range 17 { // there are sixteen first digits
		id := b.created(fmt.Sprintf("some%d", i))
		if first[id[:1]] != "" {
			prefix = id[:1]
		}
		first[id[:1]] = id
	}
	for _, ref := range []string{
		prefix, "nosuch", strings.Repeat("0", 64), "", " ", "-", "a b", "some1/json", "../images", "some1/../some2", "some1?x", "sömé",
	} {
		if c, err := b.Inspect(b.context(), ref); !errors.Is(err, runtime.ErrNoContainer) {
			b.Errorf("inspect %q: %+v, %v; want ErrNoContainer", ref, c, err)
		}
		if err := b.Engine.Kill(b.context(), ref); !errors.Is(err, runtime.ErrNoContainer) {
			b.Errorf("kill %q: %v; want ErrNoContainer", ref, err)
		}
	}
}

func networks(b *bench) {
	base := b.sleeper("base")
	b.sleeper("shared", "--net", "container:base")
	b.sleeper("host", "--net", "host")
	if got := b.inspect("base"); got.NetworkMode != "none" || got.Shares() || got.OnHost() {
		b.Errorf("network none: %+v", got)
	}
	shared := b.inspect("shared")
	if shared.NetworkMode != "container:"+base || !shared.Shares() || len(shared.Aliases) > 0 {
		b.Errorf("shared network: %+v", shared)
	}
	want := b.run("exec", "base", "readlink", "/proc/self/ns/net")
	if got := b.host("readlink", fmt.Sprintf("/proc/%d/ns/net", shared.PID)); got != want {
		b.Errorf("the shared namespace of process %d is %s, want %s", shared.PID, got, want)
	}
	if got := b.inspect("host"); !got.OnHost() || got.Shares() {
		b.Errorf("network of the host: %+v", got)
	}
}

func aliases(b *bench) {
	options, err := b.Network("aliases")
	if err != nil {
		b.Fatal(err)
	}
	b.sleeper("named", options...)
	if got := b.inspect("named"); !slices.Equal(got.Aliases, []string{"al"}) {
		b.Errorf("aliases: %q, want al", got.Aliases)
	}
	if got := b.inspect(b.sleeper("unnamed")); len(got.Aliases) > 0 {
		b.Errorf("aliases: %q, want none", got.Aliases)
	}
}

func pods(b *bench) {
	b.run("pod", "create", "--name", "pod", "--infra-image", b.Image, "--infra-command", "sleep 1000", "--net", "none")
	first, second := b.sleeper("first", "--pod", "pod"), b.sleeper("second", "--pod", "pod")
	running, err := b.List(b.context())
	if err != nil || len(running) != 3 {
		b.Fatalf("list of a pod with two containers: %d and %v, want 3 with the infra container", len(running), err)
	}
	for _, c := range running {
		if c.ID == first || c.ID == second {
			continue
		}
		if c.NetworkMode != "none" || c.Shares() {
			b.Errorf("infra container: %+v", c)
		}
		for _, id := range []string{first, second} {
			if got := b.inspect(id); got.NetworkMode != "container:"+c.ID {
				b.Errorf("network of a pod's container: %q, want that of %s", got.NetworkMode, c.ID)
			}
		}
	}
}
