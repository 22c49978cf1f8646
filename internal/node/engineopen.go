package node

import (
	"fmt"

	"weave/runtime"
)

// openEngine makes the edge that talks to an engine. The engine need not be there.
func openEngine(name, endpoint string) (runtime.Engine, error) {
	return nil, fmt.Errorf("no engine %s %s", name, endpoint)
}
