package main

import (
	"context"
	"os"
	"os/signal"
)

func main() {
	os.Exit(realMain())
}

// realMain exists for the tests, whose test scripts run it under the name weave.
func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	inv := invocation{stdout: os.Stdout, stderr: os.Stderr}
	return inv.run(ctx, os.Args[1:])
}
