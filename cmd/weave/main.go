package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"

	"weave/internal/node"
	"weave/runtime/shim"
)

func main() {
	keepMainThread()
	if filepath.Base(os.Args[0]) == filepath.Base(node.ShimPath) {
		os.Exit(shim.Main(os.Args, os.Environ(), os.Stderr))
	}
	if len(os.Args) == 2 && os.Args[1] == node.InsideVerb {
		os.Exit(inside())
	}
	os.Exit(mainWith(node.Run, node.Reset))
}

// keepMainThread keeps the main thread for main, which calls it before there are other goroutines. A goroutine that enters a
// namespace for good takes its thread along, which ends with it; but Go never ends the main thread, and what /proc shows
// of a process, its namespaces and sockets, is what that one has.
func keepMainThread() { runtime.LockOSThread() }

// inside is the daemon's child in a container's namespaces.
func inside() int {
	if err := node.Inside(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return codeFailed
	}
	return 0
}

// mainWith is main for a given node; tests have one of their own.
func mainWith(run runNode, reset resetNode) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	inv := invocation{stdout: os.Stdout, stderr: os.Stderr, runNode: run, resetNode: reset}
	return inv.run(ctx, os.Args[1:])
}
