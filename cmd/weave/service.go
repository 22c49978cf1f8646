package main

import (
	"github.com/urfave/cli/v2"

	"weave/internal/api"
)

// service leads ports of the host to containers (export), and of its exposed addresses to elsewhere (import).
func (inv *invocation) service(c *cli.Context) error {
	err := inv.changeService(c)
	if isAbsent(err) {
		return &exitError{codeFailed, "this host has no bridge: 'weave expose --publish' and '--import' lead ports without root"}
	}
	return err
}

func (inv *invocation) changeService(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) == 0 {
		return &usageError{}
	}
	what, args := args[0], args[1:]
	switch {
	case what == "list" && len(args) == 0:
		return inv.print(inv.client().Services(c.Context))
	case what == "remove" && len(args) > 0:
		for _, text := range args {
			if err := inv.client().RemoveService(c.Context, text); err != nil {
				return err
			}
		}
		return nil
	case len(args) < 2:
		return &usageError{}
	}
	id, err := api.ParseServiceID(args[0])
	if err != nil {
		return err
	}
	switch {
	case what == "export" && id.Name == "", what == "import" && id.Name != "":
		return inv.client().AddService(c.Context, args[0], args[1:])
	case what == "bind":
		return inv.client().BindService(c.Context, args[0], args[1:])
	case what == "export":
		return &exitError{codeFailed, "an export has a port of the host, [ADDRESS:]PORT, and not the name " + id.Name}
	case what == "import":
		return &exitError{codeFailed, "an import has a name, NAME[:PORT], and not only a port"}
	}
	return &usageError{}
}
