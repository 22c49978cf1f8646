package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"weave/internal/node"
)

const (
	// saysAfter is how long a command waits without a word; then it says what for, and again when that changes.
	saysAfter = 3 * time.Second
	saysEvery = time.Second
)

// addressFlags are the flags of launch about addresses.
func addressFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "ipalloc-range", Aliases: []string{"iprange"}, Value: node.DefaultRange},
		&cli.StringFlag{Name: "ipalloc-default-subnet"},
		&cli.StringFlag{Name: "ipalloc-init"},
		&cli.StringFlag{Name: "ipalloc-range-v6"},
		&cli.BoolFlag{Name: "ipv6", Value: true},
		&cli.DurationFlag{Name: "reclaim-after"},
	}
}

func readAddressFlags(c *cli.Context) node.AddressFlags {
	return node.AddressFlags{
		Range: c.String("ipalloc-range"), DefaultSubnet: c.String("ipalloc-default-subnet"), Init: c.String("ipalloc-init"),
		RangeV6: c.String("ipalloc-range-v6"), NoIPv6: !c.Bool("ipv6"), ReclaimAfter: c.Duration("reclaim-after"),
	}
}

// addressArguments are the flags again, for the daemon's own processes.
func addressArguments(f node.AddressFlags) []string {
	return []string{
		"--ipalloc-range=" + f.Range, "--ipalloc-default-subnet=" + f.DefaultSubnet, "--ipalloc-init=" + f.Init,
		"--ipalloc-range-v6=" + f.RangeV6, fmt.Sprintf("--ipv6=%t", !f.NoIPv6), "--reclaim-after=" + f.ReclaimAfter.String(),
	}
}

// checkRange compares the range with the host's routes: what containers use, the host could not reach by its own. A range
// that was asked for is only warned of.
func (inv *invocation) checkRange(c *cli.Context, cfg node.AddressConfig) error {
	if !cfg.Range.IsValid() {
		return nil
	}
	route, err := node.OverlappingRoute(cfg.Range)
	switch {
	case err != nil:
		inv.warn("cannot compare --ipalloc-range with the host's routes: %v", err)
	case route == "":
	case c.IsSet("ipalloc-range"):
		inv.warn("Specified --ipalloc-range %s overlaps with existing route on host.\n"+
			"Unless this is deliberate, you must pick another range and set it on all hosts.", cfg.Range)
	default:
		return &exitError{codeFailed, fmt.Sprintf("Network %s overlaps with existing route %s on host.\n"+
			"ERROR: Default --ipalloc-range %s overlaps with existing route on host.\n"+
			"You must pick another range and set it on all hosts.", cfg.Range, route, cfg.Range)}
	}
	return nil
}

// waitFlag bounds how long a command waits for others.
func waitFlag() cli.Flag { return &cli.DurationFlag{Name: "wait"} }

// patiently makes a call that may have to wait for other peers. After a while it says on stderr what for.
func (inv *invocation) patiently(c *cli.Context, call func(context.Context) (string, error)) (string, error) {
	limit := c.Duration("wait")
	if limit < 0 {
		return "", fmt.Errorf("invalid --wait %v, should be 0 (for ever) or more", limit)
	}
	ctx, cancel := context.WithCancel(c.Context)
	if limit > 0 {
		ctx, cancel = context.WithTimeout(c.Context, limit)
	}
	defer cancel()
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		text, err := call(ctx)
		done <- answer{text, err}
	}()
	reason, next := "", time.NewTimer(saysAfter)
	defer next.Stop()
	for {
		select {
		case a := <-done:
			if limit > 0 && ctx.Err() != nil && errors.Is(a.err, context.DeadlineExceeded) {
				return "", &exitError{codeFailed, fmt.Sprintf("gave up after %v%s", limit, inv.why(c.Context))}
			}
			return a.text, a.err
		case <-next.C:
			next.Reset(saysEvery)
			if now := inv.why(ctx); now != reason {
				reason = now
				fmt.Fprintf(inv.stderr, "waiting%s\n", reason)
			}
		}
	}
}

// why tells what requests wait for, after a colon.
func (inv *invocation) why(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, saysEvery)
	defer cancel()
	text, err := inv.client().Waiting(ctx)
	text = strings.TrimSpace(text)
	if err != nil || text == "" {
		return ""
	}
	return ": " + strings.ReplaceAll(text, "\n", "; ")
}

// prime waits until the network has agreed on who shares the address range.
func (inv *invocation) prime(c *cli.Context) error {
	if c.NArg() > 0 {
		return &usageError{}
	}
	return inv.print(inv.patiently(c, func(ctx context.Context) (string, error) { return "", inv.client().Prime(ctx) }))
}

// rmpeer takes over the space of dead peers. It goes on after a failure.
func (inv *invocation) rmpeer(c *cli.Context) error {
	if c.NArg() == 0 {
		return &usageError{}
	}
	failed := false
	for _, peer := range c.Args().Slice() {
		text, err := inv.patiently(c, func(ctx context.Context) (string, error) { return inv.client().RemovePeer(ctx, peer) })
		if err := inv.print(text, err); err != nil {
			code, message := inv.outcome(err)
			if code != codeFailed {
				return err
			}
			fmt.Fprintln(inv.stderr, message)
			failed = true
		}
	}
	if failed {
		return &exitError{codeFailed, ""}
	}
	return nil
}

// ipam checks how the address range is shared, and puts it right.
func (inv *invocation) ipam(c *cli.Context) error {
	if c.NArg() != 1 || c.Args().First() != "check" {
		return &usageError{}
	}
	if c.Bool("repair") {
		if err := inv.print(inv.client().Repair(c.Context)); err != nil {
			return err
		}
	}
	text, err := inv.client().Check(c.Context)
	if isAbsent(err) {
		return &exitError{codeFailed, "weave was launched with --ipalloc-range \"\": addresses are not allocated here"}
	}
	return inv.print(text, err)
}
