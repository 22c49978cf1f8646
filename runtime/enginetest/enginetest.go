package enginetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"weave/runtime"
)

// patience is how long an event, a state or a service may take to come on a busy machine.
const patience = time.Minute

// Rig is an engine to be tested. The host must be its own: behaviours look at all containers and end the service.
type Rig struct {
	Command string                               // docker or podman
	Image   string                               // on the host: one with sh, sleep, cat and readlink
	Open    func() (runtime.Engine, error)       // a new value for the same service
	Host    func(argv ...string) (string, error) // runs a command on the service's host; its output, without space around
	Start   func() error                         // the service; returns when it answers
	Stop    func() error                         // the service, in order; returns when it has gone
	Crash   func() error                         // the same without warning
	Pause   func(bool) error                     // stops the service in its tracks, or lets it go on
	Crowd   int                                  // how many containers are started at once
	Close   func(runtime.Engine)                 // idle connections
	Pods    bool                                 // the command makes pods
	Domain  bool                                 // the command takes --domainname
	Network func(name string) ([]string, error)  // makes a network of that name; options for run, which give the alias al
}

// Run tests that an engine does what runtime.Engine says.
func Run(t *testing.T, rig Rig) {
	for _, behaviour := range behaviours {
		if behaviour.pods && !rig.Pods {
			continue
		}
		t.Run(behaviour.name, func(t *testing.T) {
			leaks := goleak.IgnoreCurrent()
			e, err := rig.Open()
			if err != nil {
				t.Fatal(err)
			}
			b := &bench{T: t, Rig: rig, Engine: e}
			t.Cleanup(func() {
				b.sweep()
				rig.Close(e)
				goleak.VerifyNone(t, leaks)
			})
			behaviour.test(b)
		})
	}
}

var behaviours = []struct {
	name string
	test func(*bench)
	pods bool // only for engines that have them
}{
	{name: "inspect by name, id and short id", test: inspectByAnyName},
	{name: "environment, labels, hostname", test: settings},
	{name: "entrypoint and command", test: entrypoints},
	{name: "first process and files", test: process},
	{name: "unknown and ambiguous", test: unknown},
	{name: "networks", test: networks},
	{name: "aliases", test: aliases},
	{name: "pods", test: pods, pods: true},
	{name: "list the running ones", test: list},
	{name: "kill", test: kill},
	{name: "events in order", test: eventsInOrder},
	{name: "events of a restart by policy", test: eventsOfPolicy},
	{name: "many at once", test: manyAtOnce},
	{name: "slow receiver", test: slowReceiver},
	{name: "nothing between watching and list", test: nothingMissed},
	{name: "cancelled contexts", test: cancelled},
	{name: "hung", test: hung},
	{name: "stopped and started", test: func(b *bench) { comesBack(b, b.Stop) }},
	{name: "killed and started", test: func(b *bench) { comesBack(b, b.Crash) }},
	{name: "opened while absent", test: absent},
}

// bench is what a behaviour works with. Its methods fail the test.
type bench struct {
	*testing.T
	Rig
	runtime.Engine
}

// run runs the engine's command and returns what it says.
func (b *bench) run(argv ...string) string {
	b.Helper()
	out, err := b.Host(append([]string{b.Command}, argv...)...)
	if err != nil {
		b.Fatalf("%s %s: %v: %s", b.Command, strings.Join(argv, " "), err, out)
	}
	return out
}

// sleeper starts a container that does nothing and can be stopped at once, and returns its id. Its name comes first.
func (b *bench) sleeper(name string, options ...string) string {
	b.Helper()
	return lastLine(b.run(b.sleeperArgs("run", "-d", name, options...)...))
}

// created is a sleeper that has not been started.
func (b *bench) created(name string, options ...string) string {
	b.Helper()
	return lastLine(b.run(b.sleeperArgs("create", "-t", name, options...)...))
}

func (b *bench) sleeperArgs(verb, flag, name string, options ...string) []string {
	argv := append([]string{verb, flag, "--stop-signal", "KILL", "--name", name}, options...)
	if own := strings.Join(options, " "); !strings.Contains(own, "--net") && !strings.Contains(own, "--pod") {
		argv = append(argv, "--net", "none")
	}
	return append(argv, b.Image, "sleep", "1000")
}

// lastLine leaves out the warnings before an id.
func lastLine(out string) string { return out[strings.LastIndexByte(out, '\n')+1:] }

// inspect inspects what must be there.
func (b *bench) inspect(ref string) runtime.Container {
	b.Helper()
	c, err := b.Inspect(b.context(), ref)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func (b *bench) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.Cleanup(cancel)
	return ctx
}

// sweep removes all containers and pods. The engine may refuse to remove a container before one that shares its network.
func (b *bench) sweep() {
	if b.Pods {
		_, _ = b.Host(b.Command, "pod", "rm", "-af", "-t", "0")
	}
	script := fmt.Sprintf(`rest() { ids=$(%[1]s ps -aq) && [ -z "$ids" ]; }
		for i in 1 2 3; do rest && exit 0; out=$(%[1]s rm -f $ids 2>&1); done; rest || { echo "$out"; exit 1; }`, b.Command)
	if out, err := b.Host("sh", "-c", script); err != nil {
		b.Errorf("remove all containers: %v: %s", err, out)
	}
}

// until waits for a condition.
func (b *bench) until(what string, holds func() bool) {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); ; {
		if holds() {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			b.Fatalf("not within %v: %s", patience, what)
		}
	}
}
