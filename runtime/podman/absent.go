//go:build !remote

package podman

import (
	"fmt"

	"weave/runtime"
)

// Engine cannot be had in this build.
type Engine struct{ runtime.Engine }

// Open fails: the program was built without the tag "remote".
func Open(name, _ string) (*Engine, error) {
	return nil, fmt.Errorf("%s: built without podman support; build with -tags remote, as make does", name)
}

// Endpoint is where the service is.
func (e *Engine) Endpoint() string { return "" }

// Close closes idle connections.
func (e *Engine) Close() {}
