package main

import (
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"weave/internal/node"
)

// policy says who may talk to whom on the network.
func (inv *invocation) policy(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) == 0 {
		return &usageError{}
	}
	what, args := args[0], args[1:]
	switch {
	case what == "set" && len(args) == 1:
		text, err := readPolicy(args[0])
		if err != nil {
			return err
		}
		return inv.client().SetPolicy(c.Context, text)
	case what == "show" && len(args) == 0:
		return inv.print(inv.client().Policy(c.Context))
	case (what == "clear" || what == "remove") && len(args) == 0:
		return inv.client().ClearPolicy(c.Context)
	case (what == "status" || what == "list") && len(args) == 0:
		return inv.print(inv.client().PolicyStatus(c.Context))
	case what == "test" && (len(args) == 2 || len(args) == 3):
		return inv.testPolicy(c, append(args, "")[:3])
	}
	return &usageError{}
}

// testPolicy prints the verdict; that it is a denial is an exit code of its own.
func (inv *invocation) testPolicy(c *cli.Context, args []string) error {
	v, err := inv.client().TestPolicy(c.Context, args[0], args[1], args[2])
	if err != nil {
		return err
	}
	if err := inv.print(v.String(), nil); err != nil || v.Allowed {
		return err
	}
	return &exitError{codeDenied, ""}
}

// readPolicy reads a file, or standard input for "-".
func readPolicy(name string) (string, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, node.MaxPolicy+1))
	if err == nil && len(text) > node.MaxPolicy {
		err = fmt.Errorf("a policy has at most %d bytes, this one has more", node.MaxPolicy)
	}
	return string(text), err
}
