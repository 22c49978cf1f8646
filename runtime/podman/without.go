//go:build !remote

package podman

import (
	"errors"

	"weave/runtime"
)

// Open tells that this program was built without the tag remote.
func Open(string) (runtime.Engine, error) {
	return nil, errors.New("this weave was built without Podman's bindings (go build -tags remote)")
}
