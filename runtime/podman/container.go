//go:build remote

package podman

import (
	"slices"
	"strings"

	"weave/runtime"
)

// shortID is how many digits of a container's id Podman takes for one of its names.
const shortID = 12

// inspected is the part of libpod's answer that we want to know; the field names are Podman's.
// See https://docs.podman.io/en/latest/_static/api.html, InspectContainerData.
type inspected struct {
	ID             string // Podman writes Id
	Name           string
	Path           string
	Args           []string
	HostsPath      string
	ResolvConfPath string
	State          struct {
		Running, Paused bool
		Pid             int
	}
	Config struct {
		Hostname, Domainname string
		Env                  []string
		Labels               map[string]string
	}
	HostConfig      struct{ NetworkMode string }
	NetworkSettings struct {
		SandboxKey string
		Networks   map[string]struct{ Aliases []string }
	}
}

func (in *inspected) convert(engine string) runtime.Container {
	c := runtime.Container{
		ID: in.ID, Name: in.Name, Engine: engine, HostsPath: in.HostsPath, ResolvPath: in.ResolvConfPath,
		Hostname: in.Config.Hostname, Domain: in.Config.Domainname,
		Env: in.Config.Env, Labels: in.Config.Labels, NetworkMode: in.HostConfig.NetworkMode,
	}
	if in.Path != "" { // entrypoint and command, the image's or the user's
		c.Entrypoint = []string{in.Path}
		if len(in.Args) != 1 || in.Args[0] != in.Path { // Podman repeats a command that has no arguments
			c.Entrypoint = append(c.Entrypoint, in.Args...)
		}
	}
	if (in.State.Running || in.State.Paused) && in.State.Pid > 0 {
		c.Running, c.PID = true, in.State.Pid
		if visible(in.NetworkSettings.SandboxKey) {
			c.Sandbox = in.NetworkSettings.SandboxKey
		}
	}
	if c.Shares() { // then Podman shows the other container's networks
		return c
	}
	for _, n := range in.NetworkSettings.Networks {
		for _, name := range n.Aliases {
			if name != c.Name && (len(name) != shortID || !strings.HasPrefix(c.ID, name)) {
				c.Aliases = append(c.Aliases, name)
			}
		}
	}
	slices.Sort(c.Aliases)
	c.Aliases = slices.Compact(c.Aliases)
	return c
}

// visible tells that a namespace's path means the same to us. A user's Podman keeps its namespaces under the user's own
// directory, mounted in a mount namespace of its own: for us an empty file.
func visible(sandbox string) bool {
	return strings.HasPrefix(sandbox, "/run/netns/") || strings.HasPrefix(sandbox, "/var/run/netns/")
}
