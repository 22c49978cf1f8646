package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"weave/internal/node"
)

// Variables that docker's client reads, and the one that remembers what it read before.
const (
	envDockerHost   = "DOCKER_HOST"
	envOriginalHost = "ORIG_DOCKER_HOST"
)

// containerSwitches are flags without a value.
var containerSwitches = []string{
	"without-dns", "no-multicast-route", "no-rewrite-hosts", "no-default-ipalloc", "rewrite-inspect", "tls", "tlsverify",
}

// proxyFlags are the flags of launch about the Docker API proxy.
func proxyFlags() []cli.Flag {
	certs := os.Getenv("DOCKER_CERT_PATH")
	if certs == "" {
		certs = filepath.Join(os.Getenv("HOME"), ".docker")
	}
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "proxy", Value: true},
		&cli.StringSliceFlag{Name: "H"},
		&cli.StringFlag{Name: "hostname-from-label"},
		&cli.StringFlag{Name: "hostname-match", Value: "(.*)"},
		&cli.StringFlag{Name: "hostname-replacement", Value: "$1"},
		&cli.StringFlag{Name: "tlscacert", Value: filepath.Join(certs, "ca.pem")},
		&cli.StringFlag{Name: "tlscert", Value: filepath.Join(certs, "cert.pem")},
		&cli.StringFlag{Name: "tlskey", Value: filepath.Join(certs, "key.pem")},
		&cli.BoolFlag{Name: "no-detect-tls", Hidden: true},
	}
	for _, name := range containerSwitches {
		flags = append(flags, &cli.BoolFlag{Name: name})
	}
	return flags
}

func readProxyFlags(c *cli.Context) node.ProxyFlags {
	f := node.ProxyFlags{On: c.Bool("proxy"), Listen: c.StringSlice("H")}
	f.TLS.On, f.TLS.Verify = c.Bool("tls"), c.Bool("tlsverify")
	f.TLS.CA, f.TLS.Cert, f.TLS.Key = c.String("tlscacert"), c.String("tlscert"), c.String("tlskey")
	f.ContainerFlags = node.ContainerFlags{
		WithoutDNS: c.Bool("without-dns"), NoMulticastRoute: c.Bool("no-multicast-route"), NoRewriteHosts: c.Bool("no-rewrite-hosts"),
		NoDefaultAllocation: c.Bool("no-default-ipalloc"), RewriteInspect: c.Bool("rewrite-inspect"),
		FromLabel: c.String("hostname-from-label"), Match: c.String("hostname-match"), Replacement: c.String("hostname-replacement"),
	}
	return f
}

// proxyArguments are the flags again, for the daemon's own processes.
func proxyArguments(f node.ProxyFlags) []string {
	args := []string{
		"--proxy=" + strconv.FormatBool(f.On), "--hostname-from-label=" + f.FromLabel, "--hostname-match=" + f.Match,
		"--hostname-replacement=" + f.Replacement, "--tlscacert=" + f.TLS.CA, "--tlscert=" + f.TLS.Cert, "--tlskey=" + f.TLS.Key,
	}
	for _, h := range f.Listen {
		args = append(args, "-H="+h)
	}
	values := []bool{f.WithoutDNS, f.NoMulticastRoute, f.NoRewriteHosts, f.NoDefaultAllocation, f.RewriteInspect, f.TLS.On, f.TLS.Verify}
	for i, name := range containerSwitches {
		args = append(args, "--"+name+"="+strconv.FormatBool(values[i]))
	}
	return args
}

// env prints what a shell has to evaluate so that docker's client talks to the proxy; nothing where there is none.
func (inv *invocation) env(c *cli.Context) error {
	if c.NArg() > 0 {
		return &usageError{}
	}
	now := os.Getenv(envDockerHost)
	if c.Bool("restore") {
		original, ok := os.LookupEnv(envOriginalHost)
		if !ok {
			return &exitError{codeFailed, "Nothing to restore. This is most likely because there was no preceding invocation of 'eval $(weave env)' in this shell."}
		}
		return inv.print(envDockerHost+"="+original+"\n", nil)
	}
	address, ok := inv.proxyAddress(c.Context)
	if !ok {
		return nil
	}
	line := "export " + envDockerHost + "=" + address
	if now != address {
		line += " " + envOriginalHost + "=" + now
	}
	return inv.print(line+"\n", nil)
}

// config prints the flag by which docker's client talks to the proxy.
func (inv *invocation) config(c *cli.Context) error {
	if c.NArg() > 0 {
		return &usageError{}
	}
	address, ok := inv.proxyAddress(c.Context)
	if !ok {
		return &exitError{codeFailed, ""}
	}
	return inv.print("-H="+address+"\n", nil)
}

// proxyAddress is where docker's client finds the proxy.
func (inv *invocation) proxyAddress(ctx context.Context) (string, bool) {
	all, err := inv.client().ProxyAddresses(ctx)
	if err != nil || len(all) == 0 {
		return "", false
	}
	return reachable(all[0]), true
}

// reachable names this machine in an address that stands for all of its.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(address, "tcp://"))
	if err != nil || !strings.HasPrefix(address, "tcp://") || !slices.Contains([]string{"", "0.0.0.0", "::"}, host) {
		return address
	}
	return "tcp://" + net.JoinHostPort(proxyHost(), port)
}

// proxyHost is this machine as docker's client knows it.
func proxyHost() string {
	if host := os.Getenv("PROXY_HOST"); host != "" {
		return host
	}
	if u, err := url.Parse(os.Getenv(envDockerHost)); err == nil && u.Scheme == "tcp" && u.Hostname() != "" {
		return u.Hostname()
	}
	return "127.0.0.1"
}

// warnProxied tells a user who stops weave that docker's client still talks to the proxy.
func (inv *invocation) warnProxied(ctx context.Context) {
	now := os.Getenv(envDockerHost)
	if now == "" {
		return
	}
	all, err := inv.client().ProxyAddresses(ctx)
	for i, address := range all {
		all[i] = reachable(address)
	}
	if err == nil && slices.Contains(all, now) {
		fmt.Fprintln(inv.stderr, "WARNING: It appears that your environment is configured to use the Weave Docker API proxy.\n"+
			"Stopping it will break this and subsequent docker invocations. To restore your\n"+
			"environment, run 'eval $(weave env --restore)'.")
	}
}
