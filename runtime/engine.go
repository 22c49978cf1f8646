package runtime

import (
	"context"
	"errors"
	"strings"
)

// Container is what an engine tells of one container, at one moment.
type Container struct {
	ID          string // 64 hex digits
	Name        string // without the slash that Docker's API puts before it
	Engine      string // the engine's Name
	Running     bool
	PID         int // of its first process, in the daemon's pid namespace; 0 while it does not run
	Hostname    string
	Domain      string
	Env         []string // NAME=value
	Labels      map[string]string
	NetworkMode string // "default", "bridge", "none", "host", "container:ID", "ns:PATH", or a network's name
	Sandbox     string // path of its network namespace, "" where the engine keeps none
	HostsPath   string // the host's file that is its /etc/hosts, "" where there is none
	ResolvPath  string // likewise of its /etc/resolv.conf
	Entrypoint  []string
	Aliases     []string // names that its networks know it by
}

// OnHost tells that the container has the host's network namespace, which cannot be attached.
func (c Container) OnHost() bool { return c.NetworkMode == "host" }

// Shares tells that the container has its network namespace from another container, or from a path.
func (c Container) Shares() bool {
	return strings.HasPrefix(c.NetworkMode, "container:") || strings.HasPrefix(c.NetworkMode, "ns:")
}

// Shimmed tells that the container's first process is the wait shim, as the proxy makes it.
func (c Container) Shimmed() bool { return len(c.Entrypoint) > 0 && c.Entrypoint[0] == ShimPath }

// Getenv is the last value that the container's environment gives to name.
func (c Container) Getenv(name string) (string, bool) {
	for i := len(c.Env) - 1; i >= 0; i-- {
		if key, value, _ := strings.Cut(c.Env[i], "="); key == name {
			return value, true
		}
	}
	return "", false
}

// Where the proxy puts the wait shim in a container.
const (
	ShimDir  = "/w"
	ShimPath = "/w/w"
)

// Change is what happened to a container.
type Change uint8

const (
	// Watching is the first event of every Watch: whatever happens from now on is told, so that a List after it
	// misses nothing. ID is the engine's version.
	Watching Change = iota + 1
	// Started: its first process runs.
	Started
	// Died: its first process has ended; the container may start again.
	Died
	// Removed: it will not start again.
	Removed
	// Renamed: it has another name.
	Renamed
)

// Event is a change of one container.
type Event struct {
	Change Change
	ID     string
}

// ErrNoContainer is what Inspect and Kill return, wrapped, for what the engine does not know.
var ErrNoContainer = errors.New("no such container")

// Engine runs containers: Docker, Podman. Its methods may be called concurrently; each call has its own connection or
// shares one that nothing else blocks.
type Engine interface {
	// Inspect tells of a container by id, by the unique beginning of one, or by name.
	Inspect(ctx context.Context, ref string) (Container, error)
	// List tells of the containers that run, those of pods and their infra containers included.
	List(ctx context.Context) ([]Container, error)
	// Watch sends what happens until ctx ends, when it returns nil, or the engine goes away, when it returns why. It
	// does not close events. A slow receiver slows the stream down; nothing is dropped.
	Watch(ctx context.Context, events chan<- Event) error
	// Kill ends a container at once.
	Kill(ctx context.Context, id string) error
}
