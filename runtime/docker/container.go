package docker

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"weave/runtime"
)

// idLength is the number of hex digits of a container's id; its beginning of shortID digits serves as a name.
const (
	idLength = 64
	shortID  = 12
)

func fullID(s string) bool {
	return len(s) == idLength && strings.Trim(s, "0123456789abcdef") == ""
}

// convert takes from Docker's answer what we want to know. Parts of the answer may be missing: Docker leaves some out
// for containers that it could not set up.
func convert(engine string, in container.InspectResponse) runtime.Container {
	c := runtime.Container{
		ID: in.ID, Name: strings.TrimPrefix(in.Name, "/"), Engine: engine,
		HostsPath: in.HostsPath, ResolvPath: in.ResolvConfPath,
	}
	if in.Path != "" { // what is run in the end: entrypoint and command, the image's or the user's
		c.Entrypoint = append([]string{in.Path}, in.Args...)
	}
	if s := in.State; s != nil && s.Running && !s.Restarting && s.Pid > 0 {
		c.Running, c.PID = true, s.Pid
	}
	if conf := in.Config; conf != nil {
		c.Hostname, c.Domain, c.Env, c.Labels = conf.Hostname, conf.Domainname, conf.Env, conf.Labels
	}
	if host := in.HostConfig; host != nil {
		c.NetworkMode = string(host.NetworkMode)
	}
	if n := in.NetworkSettings; n != nil && c.Running {
		c.Sandbox = n.SandboxKey
	}
	c.Aliases = aliases(c, in.NetworkSettings)
	return c
}

// aliases are the names that users gave to a container on its networks. Engines add the container's own name and the
// beginning of its id, by their age to one list or another; these are left out.
func aliases(c runtime.Container, in *container.NetworkSettings) []string {
	if in == nil {
		return nil
	}
	var names []string
	for _, n := range in.Networks {
		if n == nil {
			continue
		}
		for _, name := range slices.Concat(n.Aliases, n.DNSNames) {
			if name != c.Name && (len(name) != shortID || !strings.HasPrefix(c.ID, name)) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
