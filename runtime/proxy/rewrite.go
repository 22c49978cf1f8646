package proxy

import (
	"context"
	"net/netip"
	"strings"
)

// execMark tells the shim that it is executed in a container, so that it waits no longer than the container's own process
// does (runtime/shim, EnvExec).
const execMark = "WEAVE_EXEC=1"

// exec makes a command wait like its container. In one that was not made to wait it stays as it is.
func (p *Proxy) exec(ctx context.Context, c call, body []byte) []byte {
	config, err := parseObject(body)
	if err != nil {
		return body
	}
	var cmd words
	if err := config.read("Cmd", &cmd); err != nil || len(cmd) == 0 || cmd[0] == shimPath {
		return body
	}
	shown, ok := p.engine.container(ctx, c)
	if !ok || !shown.waits() {
		return body
	}
	config.set("Cmd", append(words{shimPath}, cmd...))
	if !c.before(1, 25) { // older versions know no environment of an exec
		var env []string
		if config.read("Env", &env) != nil {
			return body
		}
		config.set("Env", append(env, execMark))
	}
	return orSame(body, config)
}

// orSame is the object's text, which cannot fail for one that was read.
func orSame(body []byte, o object) []byte {
	text, err := o.text()
	if err != nil {
		return body
	}
	return text
}

// startOld changes the host configuration that clients before version 1.24 of the API may send with a start, and which
// replaces that of the container's creation.
func (p *Proxy) startOld(ctx context.Context, c call, body []byte) []byte {
	host, err := parseObject(body)
	if err != nil || !c.before(1, 24) {
		return body
	}
	shown, ok := p.engine.container(ctx, c)
	if !ok || len(shown.Config.Entrypoint) == 0 || shown.Config.Entrypoint[0] != shimPath {
		return body
	}
	var mode string
	if host.read("NetworkMode", &mode) != nil {
		return body
	}
	dir := p.cfg.Shim.Dir
	if !ourModes[mode] { // it has the shim in its entrypoint, but nothing to wait for
		dir = p.cfg.Shim.NoWait
	}
	if bind(host, dir, p.cfg.Shim.Relabel) != nil {
		return body
	}
	if p.cfg.DNS.IsValid() && ourModes[mode] && resolve(host, p.cfg.DNS, strings.TrimSuffix(p.cfg.Naming.Domain, ".")) != nil {
		return body
	}
	return orSame(body, host)
}

// inspect puts the container's address on our network in place of the engine's, if it has one.
func (p *Proxy) inspect(ctx context.Context, body []byte) []byte {
	shown, err := parseObject(body)
	if err != nil || !p.address(ctx, shown) {
		return body
	}
	return orSame(body, shown)
}

// execInspect does it for the container that old versions of the API show within an exec.
func (p *Proxy) execInspect(ctx context.Context, body []byte) []byte {
	shown, err := parseObject(body)
	if err != nil || !shown.present("Container") {
		return body
	}
	inner, err := shown.object("Container")
	if err != nil || !p.address(ctx, inner) {
		return body
	}
	shown.set("Container", inner)
	return orSame(body, shown)
}

// address changes an inspection. It tells whether it did.
func (p *Proxy) address(ctx context.Context, shown object) bool {
	var id string
	if shown.read("Id", &id) != nil || id == "" {
		return false
	}
	mac, addresses, err := p.cfg.Network.Interface(ctx, id)
	if err != nil || len(addresses) == 0 {
		return false
	}
	settings, err := shown.object("NetworkSettings")
	if err != nil {
		return false
	}
	settings.set("MacAddress", mac.String())
	if a, ok := first(addresses, netip.Addr.Is4); ok {
		settings.set("IPAddress", a.Addr().String())
		settings.set("IPPrefixLen", a.Bits())
	}
	if a, ok := first(addresses, netip.Addr.Is6); ok {
		settings.set("GlobalIPv6Address", a.Addr().String())
		settings.set("GlobalIPv6PrefixLen", a.Bits())
	}
	shown.set("NetworkSettings", settings)
	return true
}

func first(all []netip.Prefix, is func(netip.Addr) bool) (netip.Prefix, bool) {
	for _, a := range all {
		if is(a.Addr()) {
			return a, true
		}
	}
	return netip.Prefix{}, false
}
