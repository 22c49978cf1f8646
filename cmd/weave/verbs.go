package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"weave/internal/api"
)

// verbs lists the commands.
func (inv *invocation) verbs() []*cli.Command {
	return []*cli.Command{
		{Name: "launch", Flags: launchFlags(), Action: inv.launch},
		{Name: "connect", Flags: []cli.Flag{&cli.BoolFlag{Name: "replace"}}, Action: inv.connect},
		{Name: "forget", Action: inv.forget},
		{Name: "status", Action: inv.status},
		{Name: "report", Flags: []cli.Flag{&cli.StringFlag{Name: "f"}}, Action: inv.report},
		{Name: "ps", Action: inv.ps},
		{Name: "attach", Flags: append(append(attachNameFlags(), attachHostFlags()...), &cli.BoolFlag{Name: "no-multicast-route"}, waitFlag()), Action: inv.attach},
		{Name: "detach", Flags: []cli.Flag{waitFlag()}, Action: inv.detach},
		{Name: "prime", Flags: []cli.Flag{waitFlag()}, Action: inv.prime},
		{Name: "rmpeer", Flags: []cli.Flag{waitFlag()}, Action: inv.rmpeer},
		{Name: "ipam", Flags: []cli.Flag{&cli.BoolFlag{Name: "repair"}}, Action: inv.ipam},
		{Name: "dns-add", Flags: nameFlags(), Action: inv.dnsAdd},
		{Name: "dns-remove", Flags: nameFlags(), Action: inv.dnsRemove},
		{Name: "dns-lookup", Action: inv.dnsLookup},
		{Name: "dns-args", Action: inv.dnsArgs},
		{Name: "dns-setup", Flags: []cli.Flag{&cli.BoolFlag{Name: "apply"}}, Action: inv.dnsSetup},
		{Name: "expose", Flags: exposeFlags(), Action: inv.expose},
		{Name: "hide", Flags: portFlags(), Action: inv.hide},
		{Name: "proxy", Flags: []cli.Flag{&cli.BoolFlag{Name: "off"}}, Action: inv.proxyVerb},
		{Name: "ping", Flags: []cli.Flag{&cli.IntFlag{Name: "c", Value: 4}}, Action: inv.ping},
		{Name: "nc", Action: inv.nc},
		{Name: "env", Flags: []cli.Flag{&cli.BoolFlag{Name: "restore"}}, Action: inv.env},
		{Name: "config", Action: inv.config},
		{Name: "setup-podman", Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all"}, &cli.BoolFlag{Name: "remove"}, &cli.StringFlag{Name: "hooks-dir"},
		}, Action: inv.setupPodman},
		{Name: "oci-hook", Flags: []cli.Flag{&cli.BoolFlag{Name: "all"}}, Action: inv.ociHook},
		{Name: "service", Action: inv.service},
		{Name: "policy", Action: inv.policy},
		{Name: "password", Flags: passwordFlags(), Action: inv.password},
		{Name: "version", Action: inv.version},
		{Name: "stop", Action: inv.stop},
		{Name: "reset", Flags: []cli.Flag{&cli.BoolFlag{Name: "force"}}, Action: inv.reset},
	}
}

func (inv *invocation) connect(c *cli.Context) error {
	replace := c.Bool("replace")
	if c.NArg() == 0 && !replace {
		return &usageError{}
	}
	return inv.client().Connect(c.Context, c.Args().Slice(), replace)
}

func (inv *invocation) forget(c *cli.Context) error {
	if c.NArg() == 0 {
		return &usageError{}
	}
	return inv.client().Forget(c.Context, c.Args().Slice())
}

// status prints what the daemon says of itself; the whole of it stands between empty lines. Every failure is code 1.
func (inv *invocation) status(c *cli.Context) error {
	sub := strings.Join(c.Args().Slice(), " ")
	text, err := inv.client().Status(c.Context, sub)
	if err == nil {
		if sub == "" {
			text = "\n" + text + "\n"
		}
		return inv.print(text, nil)
	}
	code, message := inv.outcome(err)
	if code == codeNotFound && sub != "" {
		return &usageError{"Invalid 'weave status' sub-command: " + sub}
	}
	return &exitError{codeFailed, message}
}

func (inv *invocation) report(c *cli.Context) error {
	if c.NArg() > 0 {
		return &usageError{}
	}
	if c.IsSet("f") {
		return inv.print(inv.client().Format(c.Context, c.String("f")))
	}
	return inv.print(inv.client().Report(c.Context))
}

// ps prints nothing where no daemon was launched: nothing is attached then.
func (inv *invocation) ps(c *cli.Context) error {
	text, err := inv.client().Containers(c.Context, c.Args().Slice())
	if code, _ := inv.outcome(err); code == codeNoDaemon && !inv.dirs.launched() {
		return nil
	}
	return inv.print(text, err)
}

func (inv *invocation) attach(c *cli.Context) error {
	addrs, target, err := addressesAndTarget(c.Args().Slice())
	if err != nil {
		return err
	}
	if c.Bool("resolv-conf") {
		if err := inv.writeResolvConf(c.Context, target); err != nil {
			return err
		}
	}
	return inv.print(inv.patiently(c, func(ctx context.Context) (string, error) {
		return inv.client().AttachWith(ctx, attachForm(c, target, addrs))
	}))
}

func (inv *invocation) detach(c *cli.Context) error {
	addrs, target, err := addressesAndTarget(c.Args().Slice())
	if err != nil {
		return err
	}
	return inv.print(inv.patiently(c, func(ctx context.Context) (string, error) {
		return inv.client().Detach(ctx, target, addrs)
	}))
}

// addressesAndTarget splits the arguments of attach and detach: any number of addresses, then one target.
func addressesAndTarget(args []string) (addrs []string, target string, err error) {
	for len(args) > 0 && api.IsAddressArgument(args[0]) {
		addrs, args = append(addrs, args[0]), args[1:]
	}
	if len(args) != 1 || args[0] == "" {
		return nil, "", &usageError{}
	}
	target, err = absoluteTarget(args[0])
	return addrs, target, err
}

// absoluteTarget makes a path mean the same to the daemon as it does here: relative to our directory, and with "self"
// being us.
func absoluteTarget(target string) (string, error) {
	if !strings.Contains(target, "/") {
		return target, nil
	}
	path, err := filepath.Abs(target)
	if err != nil {
		return "", err
	}
	own := "/proc/" + strconv.Itoa(os.Getpid()) + "/"
	for _, prefix := range []string{"/proc/self/", "/proc/thread-self/"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			return own + rest, nil
		}
	}
	return path, nil
}

func (inv *invocation) version(c *cli.Context) error {
	running, err := inv.client().Version(c.Context)
	if err != nil {
		running = api.Version
	}
	return inv.print(fmt.Sprintf("weave script %s\nweave %s\n", api.Version, running), nil)
}

// isAbsent tells that a daemon answered, but does not serve this.
func isAbsent(err error) bool {
	se, ok := errors.AsType[*api.StatusError](err)
	return ok && se.Code == http.StatusNotFound
}
