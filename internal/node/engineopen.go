package node

import (
	"fmt"

	"weave/runtime"
	"weave/runtime/docker"
)

// openEngine makes the edge that talks to an engine. The engine need not be there.
func openEngine(name, endpoint string) (runtime.Engine, error) {
	if name == engineDocker {
		return docker.Open(endpoint)
	}
	return nil, fmt.Errorf("built without %s", name)
}
