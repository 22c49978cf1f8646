package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"

	"weave/internal/node"
	"weave/runtime/shim"
)

func main() {
	if filepath.Base(os.Args[0]) == shim.Name {
		os.Exit(shim.Main(os.Args, os.Environ(), os.Stderr))
	}
	os.Exit(mainWith(node.Run, node.Reset))
}

// mainWith is main for a given node; tests have one of their own.
func mainWith(run runNode, reset resetNode) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	inv := invocation{stdout: os.Stdout, stderr: os.Stderr, runNode: run, resetNode: reset}
	return inv.run(ctx, os.Args[1:])
}
