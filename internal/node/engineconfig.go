package node

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"weave/runtime"
	"weave/runtime/docker"
	"weave/runtime/podman"
)

// Names of container engines.
const (
	engineDocker = "docker"
	enginePodman = "podman"
)

// DefaultDocker is where Docker listens unless told otherwise.
const DefaultDocker = docker.DefaultEndpoint

// EngineFlags are the flags of launch about container engines, as typed.
type EngineFlags struct {
	Runtime string // names with commas between, "auto" or "none"
	Docker  string // endpoint; "" = no Docker
	Podman  string // endpoint; "" = the user's own
}

// EngineConfig says which engines' containers join the network. Without endpoints none do.
type EngineConfig struct {
	Auto   bool   // engines that never answered are not worth a word
	Docker string // endpoint, unix:///path or tcp://host:port
	Podman string

	Naming           runtime.Naming
	WithoutDNS       bool
	NoMulticastRoute bool
	NoRewriteHosts   bool
}

// ParseEngineFlags checks the flags.
func ParseEngineFlags(f EngineFlags) (EngineConfig, error) {
	var c EngineConfig
	wanted := strings.Split(f.Runtime, ",")
	for _, name := range wanted {
		if !slices.Contains([]string{engineDocker, enginePodman, "auto", "none"}, name) {
			return c, fmt.Errorf("invalid --runtime %q, should be docker, podman, docker,podman, auto or none", f.Runtime)
		}
		if len(wanted) > 1 && (name == "auto" || name == "none") {
			return c, fmt.Errorf("invalid --runtime %q: %s stands alone", f.Runtime, name)
		}
	}
	c.Auto = wanted[0] == "auto"
	if c.Auto || slices.Contains(wanted, engineDocker) {
		c.Docker = f.Docker
	}
	if c.Auto || slices.Contains(wanted, enginePodman) {
		if c.Podman = f.Podman; c.Podman == "" {
			c.Podman = defaultPodman()
		}
	}
	for flag, endpoint := range map[string]string{"docker-api": c.Docker, "podman-api": c.Podman} {
		if err := checkEndpoint(endpoint); err != nil {
			return c, fmt.Errorf("invalid --%s %q, should be unix:///path or tcp://host:port", flag, endpoint)
		}
	}
	if c.Docker == "" && slices.Contains(wanted, engineDocker) {
		return c, fmt.Errorf("--runtime=%s needs an endpoint in --docker-api", f.Runtime)
	}
	return c, nil
}

func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	scheme, rest, ok := strings.Cut(endpoint, "://")
	if !ok || rest == "" || (scheme == "unix" && !strings.HasPrefix(rest, "/")) || !slices.Contains([]string{"unix", "tcp", "http", "https"}, scheme) {
		return fmt.Errorf("bad endpoint")
	}
	return nil
}

// defaultPodman is the socket of Podman's service: root's, or the user's own.
func defaultPodman() string {
	if os.Geteuid() == 0 {
		return podman.RootEndpoint
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = fmt.Sprintf("/run/user/%d", os.Geteuid())
	}
	return podman.UserEndpoint(dir)
}
