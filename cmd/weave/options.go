package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"weave/internal/api"
	"weave/internal/node"
)

const resolveTimeout = 10 * time.Second

// deadFlags configured services that no longer exist. Scripts still pass them.
var deadFlags = []string{"token", "peer-discovery-url"}

func launchFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "name"},
		&cli.StringFlag{Name: "nickname"},
		&cli.StringSliceFlag{Name: "password"},
		&cli.StringFlag{Name: "password-file"},
		&cli.IntFlag{Name: "port", Value: node.DefaultPort, EnvVars: []string{"WEAVE_PORT"}},
		&cli.StringFlag{Name: "host"},
		&cli.StringSliceFlag{Name: "trusted-subnets"},
		&cli.StringSliceFlag{Name: "advertise-address"},
		&cli.BoolFlag{Name: "no-discovery"},
		&cli.IntFlag{Name: "conn-limit", Value: node.DefaultConnLimit},
		&cli.BoolFlag{Name: "resume"},
		&cli.StringFlag{Name: "mtu", EnvVars: []string{"WEAVE_MTU"}},
		&cli.BoolFlag{Name: "no-fastdp", Value: os.Getenv("WEAVE_NO_FASTDP") != ""},
		&cli.StringFlag{Name: "fastdp-encryption", Value: node.EncryptAuto},
		&cli.StringFlag{Name: "tap", Value: "auto"},
		&cli.IntFlag{Name: "queues"},
		&cli.StringFlag{Name: "log-level", Value: "info"},
		&cli.StringFlag{Name: "http-addr", Value: envOr("WEAVE_HTTP_ADDR", "127.0.0.1:6784")},
		&cli.StringFlag{Name: "status-addr", Value: envOr("WEAVE_STATUS_ADDR", "127.0.0.1:6782")},
		&cli.BoolFlag{Name: "allow-spoof"},
		&cli.BoolFlag{Name: "egress"},
		&cli.BoolFlag{Name: "no-restart"},
		&cli.BoolFlag{Name: "foreground"},
	}
	flags = append(flags, addressFlags()...)
	flags = append(flags, dnsFlags()...)
	flags = append(flags, engineFlags()...)
	flags = append(flags, proxyFlags()...)
	for _, name := range deadFlags {
		flags = append(flags, &cli.StringFlag{Name: name, Hidden: true})
	}
	return flags
}

// options are what launch was asked for, checked.
type options struct {
	node      node.Config // without Log and Instance
	level     string
	noRestart bool
	addresses node.AddressFlags
	names     node.NameFlags
	engines   node.EngineFlags
	proxy     node.ProxyFlags
}

// readOptions checks everything about an invocation of launch that can be checked without starting anything.
func readOptions(c *cli.Context, d dirs) (options, error) {
	cfg := node.Config{
		Nickname:    c.String("nickname"),
		Port:        c.Int("port"),
		Peers:       c.Args().Slice(),
		Resume:      c.Bool("resume"),
		NoDiscovery: c.Bool("no-discovery"),
		ConnLimit:   c.Int("conn-limit"),
		NoFast:      c.Bool("no-fastdp"),
		Tap:         c.String("tap"), FastEncryption: c.String("fastdp-encryption"),
		Queues:   c.Int("queues"),
		Rootless: os.Geteuid() != 0,
		Egress:   c.Bool("egress"), AllowSpoof: c.Bool("allow-spoof"),
		Paths:     node.Paths{State: d.state, Run: d.run},
		Listeners: node.Listeners{HTTP: c.String("http-addr"), Status: c.String("status-addr")},
	}
	var err error
	if cfg.MTU, cfg.AutoMTU, err = parseMTU(c.String("mtu")); err != nil {
		return options{}, err
	}
	if cfg.Name, err = parseName(c.String("name")); err != nil {
		return options{}, err
	}
	if cfg.Passwords, err = launchPasswords(c); err != nil {
		return options{}, err
	}
	if cfg.Nickname == "" {
		if cfg.Nickname, err = os.Hostname(); err != nil {
			return options{}, fmt.Errorf("cannot tell the host's name: %w: give --nickname", err)
		}
	}
	if err := readPlaces(c, &cfg); err != nil {
		return options{}, err
	}
	addresses := readAddressFlags(c)
	if cfg.Addresses, err = node.ParseAddressFlags(addresses); err != nil {
		return options{}, err
	}
	names := readNameFlags(c)
	if cfg.Names, err = node.ParseNameFlags(names); err != nil {
		return options{}, err
	}
	engines := readEngineFlags(c)
	if cfg.Engines, err = node.ParseEngineFlags(engines); err != nil {
		return options{}, err
	}
	proxied := readProxyFlags(c)
	if cfg.Proxy, err = node.ParseProxyFlags(proxied, d.run, &cfg.Engines); err != nil {
		return options{}, err
	}
	opts := options{
		node: cfg, level: c.String("log-level"), noRestart: c.Bool("no-restart"), addresses: addresses, names: names,
		engines: engines, proxy: proxied,
	}
	return opts, opts.check()
}

// readPlaces reads the flags that are about addresses of the underlay.
func readPlaces(c *cli.Context, cfg *node.Config) (err error) {
	if host := c.String("host"); host != "" {
		if cfg.Host, err = netip.ParseAddr(host); err != nil {
			return fmt.Errorf("invalid --host %q, should be an IP address of this host", host)
		}
	}
	if cfg.TrustedSubnets, err = parseSubnets(c.StringSlice("trusted-subnets")); err != nil {
		return err
	}
	cfg.Advertise, err = parseAdvertised(c.StringSlice("advertise-address"), cfg.Port)
	return err
}

func (o options) check() error {
	cfg := o.node
	if cfg.Port < 1 || cfg.Port > 65534 {
		return fmt.Errorf("invalid --port %d, should be 1 to 65534 (the port after it is used too)", cfg.Port)
	}
	if !slices.Contains([]string{"auto", "kernel", "water"}, cfg.Tap) {
		return fmt.Errorf("invalid --tap %q, should be auto, kernel or water", cfg.Tap)
	}
	if err := node.CheckEncryption(cfg.FastEncryption); err != nil {
		return err
	}
	if cfg.Queues < 0 || cfg.Queues > node.MaxQueues {
		return fmt.Errorf("invalid --queues %d, should be 1 to %d, or 0 to choose", cfg.Queues, node.MaxQueues)
	}
	if cfg.ConnLimit < 0 {
		return fmt.Errorf("invalid --conn-limit %d, should be 0 (no limit) or more", cfg.ConnLimit)
	}
	if _, err := parseLevel(o.level); err != nil {
		return err
	}
	for flag, addr := range map[string]string{"http-addr": cfg.Listeners.HTTP, "status-addr": cfg.Listeners.Status} {
		if err := checkListenAddr(addr); err != nil {
			return fmt.Errorf("invalid --%s %q, should be HOST:PORT or an absolute path: %w", flag, addr, err)
		}
	}
	if cfg.Resume && len(cfg.Peers) > 0 {
		return &exitError{codeFailed, "You must not specify an initial peer list in conjunction with --resume"}
	}
	for _, peer := range cfg.Peers {
		if _, _, err := api.ParseTarget(peer); err != nil {
			return err
		}
	}
	return nil
}

// parseMTU reads a number of bytes, or auto; nothing and 0 leave it to the daemon.
func parseMTU(text string) (mtu int, auto bool, err error) {
	switch text {
	case "", "0":
		return 0, false, nil
	case "auto":
		return 0, true, nil
	}
	if mtu, err = strconv.Atoi(text); err != nil || mtu < node.MinMTU || mtu > node.MaxMTU {
		return 0, false, fmt.Errorf("invalid --mtu %s, should be %d to %d, 0 for %d, or auto", text, node.MinMTU, node.MaxMTU, node.DefaultMTU)
	}
	return mtu, false, nil
}

// parseSubnets reads subnets, given several times or with commas between them.
func parseSubnets(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range commaList(texts) {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("invalid --trusted-subnets %q, should be subnets such as 10.0.0.0/8 with commas between", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// parseAdvertised reads addresses with or without a port, and completes them.
func parseAdvertised(texts []string, port int) ([]string, error) {
	var out []string
	for _, text := range commaList(texts) {
		ap, err := netip.ParseAddrPort(text)
		if err != nil {
			var a netip.Addr
			a, err = netip.ParseAddr(strings.Trim(text, "[]"))
			ap = netip.AddrPortFrom(a, uint16(port))
		}
		if err != nil || ap.Port() == 0 || ap.Addr().IsUnspecified() || ap.Addr().IsMulticast() {
			return nil, fmt.Errorf("invalid --advertise-address %q, should be ip or ip:port, as others reach this host", text)
		}
		out = append(out, ap.String())
	}
	return out, nil
}

func commaList(texts []string) []string {
	return slices.DeleteFunc(strings.Split(strings.Join(texts, ","), ","), func(s string) bool { return s == "" })
}

func checkListenAddr(addr string) error {
	if addr == "" || strings.HasPrefix(addr, "/") {
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err
}

// resolvePeers fails when any peer's name has no address: at launch that is a mistake more often than a mishap.
func resolvePeers(ctx context.Context, peers []string) error {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	errs := make([]error, len(peers))
	var lookups sync.WaitGroup
	for i, peer := range peers {
		lookups.Go(func() { errs[i] = api.CheckTarget(ctx, nil, peer) })
	}
	lookups.Wait()
	return errors.Join(errs...)
}

// parseName reads a peer name: six bytes in hex, of which one run of zeroes may be written "::". It returns the long
// form, and "" for "".
func parseName(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	invalid := fmt.Errorf("invalid --name %q, should look like 8a:3e:3e:3e:3e:3e", text)
	head, tail, short := strings.Cut(text, "::")
	groups := splitGroups(head)
	if short {
		last := splitGroups(tail)
		gap := 6 - len(groups) - len(last)
		if gap < 1 {
			return "", invalid
		}
		groups = append(append(groups, make([]string, gap)...), last...)
		for i := range gap {
			groups[len(groups)-len(last)-gap+i] = "0"
		}
	}
	if len(groups) != 6 {
		return "", invalid
	}
	mac := make(net.HardwareAddr, 6)
	for i, group := range groups {
		n, err := strconv.ParseUint(group, 16, 8)
		if err != nil || len(group) > 2 {
			return "", invalid
		}
		mac[i] = byte(n)
	}
	if mac[0]&1 != 0 || mac.String() == "00:00:00:00:00:00" {
		return "", fmt.Errorf("invalid --name %q: it becomes a hardware address, so it must not be a multicast one or zero", text)
	}
	return mac.String(), nil
}

func splitGroups(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ":")
}

func parseLevel(text string) (slog.Level, error) {
	switch text {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("invalid --log-level %q, should be debug, info, warning or error", text)
}

// arguments makes the command line of the daemon's own processes. The passwords are not part of it: everybody on the
// machine can read command lines.
func (o options) arguments() []string {
	cfg := o.node
	args := []string{
		"launch", "--name=" + cfg.Name, "--nickname=" + cfg.Nickname, "--port=" + strconv.Itoa(cfg.Port),
		"--no-discovery=" + strconv.FormatBool(cfg.NoDiscovery), "--conn-limit=" + strconv.Itoa(cfg.ConnLimit),
		"--mtu=" + mtuArgument(cfg), "--log-level=" + o.level, "--tap=" + cfg.Tap,
		"--queues=" + strconv.Itoa(cfg.Queues), "--no-fastdp=" + strconv.FormatBool(cfg.NoFast),
		"--fastdp-encryption=" + cfg.FastEncryption,
		"--http-addr=" + cfg.Listeners.HTTP,
		"--status-addr=" + cfg.Listeners.Status, "--resume=" + strconv.FormatBool(cfg.Resume),
		"--allow-spoof=" + strconv.FormatBool(cfg.AllowSpoof), "--egress=" + strconv.FormatBool(cfg.Egress), "--no-restart=" + strconv.FormatBool(o.noRestart),
	}
	for _, p := range cfg.TrustedSubnets {
		args = append(args, "--trusted-subnets="+p.String())
	}
	for _, a := range cfg.Advertise {
		args = append(args, "--advertise-address="+a)
	}
	args = append(args, addressArguments(o.addresses)...)
	args = append(args, nameArguments(o.names)...)
	args = append(args, engineArguments(o.engines)...)
	args = append(args, proxyArguments(o.proxy)...)
	if cfg.Host.IsValid() {
		args = append(args, "--host="+cfg.Host.String())
	}
	return append(append(args, "--"), cfg.Peers...)
}

func mtuArgument(cfg node.Config) string {
	if cfg.AutoMTU {
		return "auto"
	}
	return strconv.Itoa(cfg.MTU)
}

func envOr(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}
