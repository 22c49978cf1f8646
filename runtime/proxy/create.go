package proxy

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"weave/runtime"
)

const (
	shimDir  = runtime.ShimDir
	shimPath = runtime.ShimPath
)

// ourModes are the networks with which a container is ours without asking; in those that users made it has to ask.
var ourModes = map[string]bool{"": true, "default": true, "bridge": true, "none": true}

// creation is a request to create a container.
type creation struct {
	config, host object
	name         string
	command      command
}

// command is what a container runs.
type command struct {
	Entrypoint, Cmd words
	own             bool // the request itself has an entrypoint, though it may be empty
}

// create changes a request so that the container starts with the shim. What is not ours, or no such request at all, stays
// as it is: the engine has its own word to say about it.
func (p *Proxy) create(ctx context.Context, c call, body []byte) ([]byte, *reply) {
	config, err := parseObject(body)
	if err != nil {
		return body, nil
	}
	cr := creation{config: config, name: strings.TrimPrefix(c.query.Get("name"), "/")}
	wish, imageName, err := cr.read()
	if err != nil || wish.OnHost() || wish.Shares() || imageName == "" {
		return body, nil
	}
	if address, given := wish.Getenv(runtime.EnvAddresses); given && strings.TrimSpace(address) == "none" {
		return body, nil // without asking for the image
	}
	img, instead := p.engine.image(ctx, c, imageName)
	if instead != nil {
		return nil, instead
	}
	if !p.wanted(wish, img) {
		return body, nil
	}
	changed, err := cr.rewrite(p.cfg, wish, img)
	if err != nil {
		return nil, failure(c, http.StatusInternalServerError, err.Error())
	}
	return changed, nil
}

// read reads what we need to know.
func (cr *creation) read() (wish runtime.Container, imageName string, err error) {
	wish.Name = cr.name
	cr.command.own = cr.config.present("Entrypoint")
	for name, into := range map[string]any{
		"Image": &imageName, "Env": &wish.Env, "Labels": &wish.Labels, "Hostname": &wish.Hostname,
		"Domainname": &wish.Domain, "Entrypoint": &cr.command.Entrypoint, "Cmd": &cr.command.Cmd,
	} {
		if err := cr.config.read(name, into); err != nil {
			return wish, "", err
		}
	}
	if cr.host, err = cr.config.object("HostConfig"); err != nil {
		return wish, "", err
	}
	return wish, imageName, cr.host.read("NetworkMode", &wish.NetworkMode)
}

// wanted tells whether a container is to be on our network: the request's words go before the image's.
func (p *Proxy) wanted(c runtime.Container, img image) bool {
	c.Env = append(append([]string(nil), img.Env...), c.Env...)
	labels := map[string]string{}
	for _, from := range []map[string]string{img.Labels, c.Labels} {
		for k, v := range from {
			labels[k] = v
		}
	}
	c.Labels = labels
	wish, err := runtime.WishOf(c, !p.cfg.NoDefaultAllocation && ourModes[c.NetworkMode])
	if err != nil {
		p.cfg.Log.Warn("a container is left alone", "name", c.Name, "err", err)
	}
	return err == nil && wish.Wanted
}

type textError string

func (e textError) Error() string { return string(e) }

const errNoCommand textError = "No command specified" // as Weave Net and old Docker word it

// merge adds what the image gives, as Docker does (daemon/commit.go, daemon/create.go): its command only for its own
// entrypoint, or for one that was reset by an empty list; an entrypoint of one empty word is none.
func (c command) merge(img image) command {
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = img.Cmd
		}
		if !c.own {
			c.Entrypoint = img.Entrypoint
		}
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil
	}
	return c
}

// rewrite makes the request ours.
func (cr *creation) rewrite(cfg Config, wish runtime.Container, img image) ([]byte, error) {
	cmd := cr.command.merge(img)
	if len(cmd.Entrypoint) == 0 && len(cmd.Cmd) == 0 {
		return nil, errNoCommand
	}
	if len(cmd.Entrypoint) == 0 || cmd.Entrypoint[0] != shimPath { // else from an image that was committed
		cmd.Entrypoint = append(words{shimPath}, cmd.Entrypoint...)
	}
	cr.config.set("Entrypoint", cmd.Entrypoint)
	if len(cmd.Cmd) > 0 {
		cr.config.set("Cmd", cmd.Cmd)
	}
	if err := bind(cr.host, cfg.Shim.Dir, cfg.Shim.Relabel); err != nil {
		return nil, err
	}
	if cfg.DNS.IsValid() {
		if err := cr.names(cfg, wish, img); err != nil {
			return nil, err
		}
	}
	cr.config.set("HostConfig", cr.host)
	return cr.config.text()
}

// names gives the container a name, and our name server.
func (cr *creation) names(cfg Config, wish runtime.Container, img image) error {
	var uts string
	if err := cr.host.read("UTSMode", &uts); err != nil {
		return err
	}
	if wish.Hostname == "" && uts == "" { // one that has the host's name cannot have its own
		labels := wish.Labels
		if _, given := labels[cfg.Naming.FromLabel]; !given {
			labels = img.Labels
		}
		derived, ok := cfg.Naming.Hostname(cr.name, labels)
		if ok {
			cr.config.set("Hostname", derived)
			if wish.Domain == "" {
				cr.config.set("Domainname", strings.TrimSuffix(cfg.Naming.Domain, "."))
			}
		} else if derived != "" {
			cfg.Log.Warn("the container's name is too long for a host name", "name", derived, "limit", runtime.MaxHostname)
		}
	}
	return resolve(cr.host, cfg.DNS, strings.TrimSuffix(cfg.Naming.Domain, "."))
}

// resolve adds our name server and the domain. Weave Net had containers with a name search ".", whereupon resolvers take
// the domain of the host name; Docker no longer puts it there.
func resolve(host object, server netip.Addr, domain string) error {
	var servers, search []string
	if err := host.read("Dns", &servers); err != nil {
		return err
	}
	if err := host.read("DnsSearch", &search); err != nil {
		return err
	}
	host.set("Dns", append(servers, server.String()))
	if len(search) == 0 {
		host.set("DnsSearch", []string{domain})
	}
	return nil
}

// bind mounts the shim, in place of whatever the request has there.
func bind(host object, dir string, relabel bool) error {
	var binds []string
	if err := host.read("Binds", &binds); err != nil {
		return err
	}
	kept := slices.DeleteFunc(binds, func(b string) bool {
		parts := strings.Split(b, ":") // SOURCE:TARGET[:OPTIONS], or TARGET
		return isShimDir(parts[min(1, len(parts)-1)])
	})
	options := "ro"
	if relabel {
		options = "ro,z"
	}
	host.set("Binds", append(kept, dir+":"+shimDir+":"+options))
	return unmount(host)
}

func isShimDir(path string) bool { return strings.TrimRight(path, "/") == shimDir }

// unmount drops what else would be mounted where the shim is: two mounts in one place are refused.
func unmount(host object) error {
	var mounts []object
	if err := host.read("Mounts", &mounts); err != nil {
		return err
	}
	kept := make([]object, 0, len(mounts))
	for _, m := range mounts {
		var target string
		if err := m.read("Target", &target); err != nil {
			return err
		}
		if !isShimDir(target) {
			kept = append(kept, m)
		}
	}
	if len(kept) != len(mounts) {
		host.set("Mounts", kept)
	}
	tmpfs, err := host.object("Tmpfs")
	if err != nil {
		return err
	}
	for k := range tmpfs {
		if isShimDir(k) {
			delete(tmpfs, k)
			host.set("Tmpfs", tmpfs)
		}
	}
	return nil
}
