package node

import (
	"fmt"
	"os"

	"weave/runtime"
	"weave/runtime/docker"
	"weave/runtime/podman"
)

// openEngine makes the edge that talks to an engine. The engine need not be there.
func openEngine(name, endpoint string) (runtime.Engine, error) {
	switch name {
	case engineDocker:
		if endpoint == os.Getenv("DOCKER_HOST") {
			endpoint = "" // with the TLS files that the environment names too
		}
		return docker.Open(name, endpoint)
	case enginePodman:
		return podman.Open(name, endpoint)
	}
	return nil, fmt.Errorf("unknown engine %q", name)
}
