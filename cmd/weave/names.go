package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"weave/internal/api"
	"weave/internal/node"
)

// lookupTimeout is longer than the daemon waits for other name servers.
const lookupTimeout = 10 * time.Second

// dnsFlags are the flags of launch about names.
func dnsFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "no-dns"},
		&cli.StringFlag{Name: "dns-domain", Value: node.DefaultDomain},
		&cli.IntFlag{Name: "dns-ttl", Value: node.DefaultTTL},
		&cli.StringFlag{Name: "dns-listen-address"},
		&cli.StringSliceFlag{Name: "dns-upstream"},
		&cli.DurationFlag{Name: "dns-fallback-timeout", Value: node.DefaultFallback},
		&cli.StringFlag{Name: "resolv-conf", Value: node.DefaultResolv},
	}
}

func readNameFlags(c *cli.Context) node.NameFlags {
	return node.NameFlags{
		Off: c.Bool("no-dns"), Domain: c.String("dns-domain"), TTL: c.Int("dns-ttl"), Listen: c.String("dns-listen-address"),
		Upstreams: commaList(c.StringSlice("dns-upstream")), Fallback: c.Duration("dns-fallback-timeout"), ResolvConf: c.String("resolv-conf"),
	}
}

// nameArguments are the flags again, for the daemon's own processes.
func nameArguments(f node.NameFlags) []string {
	args := []string{
		"--no-dns=" + strconv.FormatBool(f.Off), "--dns-domain=" + f.Domain, "--dns-ttl=" + strconv.Itoa(f.TTL),
		"--dns-listen-address=" + f.Listen, "--dns-fallback-timeout=" + f.Fallback.String(), "--resolv-conf=" + f.ResolvConf,
	}
	for _, u := range f.Upstreams {
		args = append(args, "--dns-upstream="+u)
	}
	return args
}

func attachNameFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "name"},
		&cli.StringFlag{Name: "h"},
		&cli.BoolFlag{Name: "without-dns"},
		&cli.BoolFlag{Name: "resolv-conf"},
	}
}

// attachForm is what the daemon is told of an attach.
func attachForm(c *cli.Context, target string, addrs []string) url.Values {
	form := url.Values{"target": {target}, "addr": addrs, "name": c.StringSlice("name")}
	if h := c.String("h"); h != "" {
		form.Add("name", h)
	}
	form["add-host"] = c.StringSlice("add-host")
	for _, flag := range []string{"no-multicast-route", "without-dns", "rewrite-hosts"} {
		if c.Bool(flag) {
			form.Set(flag, "true")
		}
	}
	return form
}

// nameFlags are those of dns-add and dns-remove.
func nameFlags() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{Name: "h"}, &cli.StringSliceFlag{Name: "service"}}
}

// nameForm reads the arguments of dns-add and dns-remove: addresses, then a target, or none with -h.
func nameForm(c *cli.Context) (url.Values, error) {
	args := c.Args().Slice()
	form := url.Values{"service": c.StringSlice("service")}
	for len(args) > 0 {
		if _, err := netip.ParseAddr(args[0]); err != nil {
			break
		}
		form.Add("addr", args[0])
		args = args[1:]
	}
	if h := c.String("h"); h != "" {
		form.Set("fqdn", h)
	}
	switch {
	case len(args) == 0 && form.Has("addr") && form.Has("fqdn"):
		form.Set("target", api.Extern)
		return form, nil
	case len(args) != 1 || args[0] == "":
		return nil, &usageError{}
	}
	target, err := absoluteTarget(args[0])
	form.Set("target", target)
	return form, err
}

func (inv *invocation) dnsAdd(c *cli.Context) error {
	form, err := nameForm(c)
	if err != nil {
		return err
	}
	return inv.client().AddNames(c.Context, form)
}

func (inv *invocation) dnsRemove(c *cli.Context) error {
	form, err := nameForm(c)
	if err != nil {
		return err
	}
	return inv.client().RemoveNames(c.Context, form)
}

// dnsArgs prints what a container engine is told; nothing where names are not served, or no daemon runs.
func (inv *invocation) dnsArgs(c *cli.Context) error {
	if c.NArg() > 0 {
		return &usageError{}
	}
	at, domain, err := inv.nameServer(c.Context)
	if err != nil || domain == "" {
		return err
	}
	return inv.print(fmt.Sprintf("--dns=%s --dns-search=%s", at.Addr(), domain), nil)
}

// nameServer is where names are served, and the domain; both are empty if nobody serves any.
func (inv *invocation) nameServer(ctx context.Context) (netip.AddrPort, string, error) {
	address, domain, err := inv.client().NameServer(ctx)
	if isAbsent(err) || errors.Is(err, api.ErrNotRunning) {
		return netip.AddrPort{}, "", nil
	}
	if err != nil {
		return netip.AddrPort{}, "", err
	}
	at, err := netip.ParseAddrPort(address)
	return at, domain, err
}

// dnsLookup asks the daemon's own server, as a container does.
func (inv *invocation) dnsLookup(c *cli.Context) error {
	if c.NArg() != 1 || c.Args().First() == "" {
		return &usageError{}
	}
	if text, err := inv.client().Lookup(c.Context, c.Args().First()); !isAbsent(err) {
		return inv.print(text, err)
	}
	address, domain, err := inv.client().NameServer(c.Context)
	if err != nil {
		return err
	}
	name := c.Args().First()
	if bare := strings.TrimSuffix(name, "."); !strings.Contains(bare, ".") {
		name = bare + "." + domain
	}
	if !strings.HasSuffix(name, ".") {
		name += "."
	}
	ctx, cancel := context.WithTimeout(c.Context, lookupTimeout)
	defer cancel()
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}}
	found, err := resolver.LookupNetIP(ctx, "ip4", name)
	if none, ok := errors.AsType[*net.DNSError](err); ok && none.IsNotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up %s at %s: %w", name, address, err)
	}
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	var b strings.Builder
	for _, a := range found {
		fmt.Fprintln(&b, a.Unmap())
	}
	return inv.print(b.String(), nil)
}
