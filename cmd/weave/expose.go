package main

import (
	"context"
	"net/url"

	"github.com/urfave/cli/v2"

	"weave/internal/api"
)

// exposeFlags are those of expose; hide knows the ports too.
func exposeFlags() []cli.Flag {
	return append(portFlags(), &cli.StringSliceFlag{Name: "h"}, &cli.BoolFlag{Name: "without-masquerade"}, waitFlag())
}

func portFlags() []cli.Flag {
	return []cli.Flag{&cli.StringSliceFlag{Name: "publish"}, &cli.StringSliceFlag{Name: "import"}}
}

// exposeForm reads the arguments: addresses only.
func exposeForm(c *cli.Context) (url.Values, error) {
	for _, arg := range c.Args().Slice() {
		if !api.IsAddressArgument(arg) {
			return nil, &usageError{"invalid address \"" + arg + "\", should be like 10.2.1.1/24, with the length of its subnet's prefix"}
		}
	}
	if len(c.StringSlice("h")) > 1 {
		return nil, &usageError{}
	}
	form := url.Values{
		"addr": c.Args().Slice(), "fqdn": c.StringSlice("h"), "publish": c.StringSlice("publish"), "import": c.StringSlice("import"),
	}
	if c.Bool("without-masquerade") {
		form.Set("without-masquerade", "true")
	}
	return form, nil
}

func (inv *invocation) expose(c *cli.Context) error {
	form, err := exposeForm(c)
	if err != nil {
		return err
	}
	return inv.print(inv.patiently(c, func(ctx context.Context) (string, error) { return inv.client().Expose(ctx, form) }))
}

func (inv *invocation) hide(c *cli.Context) error {
	form, err := exposeForm(c)
	if err != nil {
		return err
	}
	return inv.print(inv.client().Hide(c.Context, form))
}
