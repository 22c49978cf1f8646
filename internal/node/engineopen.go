package node

import (
	"fmt"

	"weave/runtime"
	"weave/runtime/docker"
	"weave/runtime/podman"
)

// openEngine makes the edge that talks to an engine. The engine need not be there.
func openEngine(name, endpoint string) (runtime.Engine, error) {
	switch name {
	case engineDocker:
		return docker.Open(endpoint)
	case enginePodman:
		return podman.Open(endpoint)
	}
	return nil, fmt.Errorf("unknown engine %q", name)
}
