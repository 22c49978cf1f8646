package node

import (
	"net/netip"
	"os"
	"syscall"

	"weave/runtime"
)

// rewriteHosts writes a container's /etc/hosts, if it is to be. The file stays the
// same one, which the container has mounted. That it fails is no reason not to be
// on the network.
func (n *node) rewriteHosts(c runtime.Container, r record) {
	if !r.RewriteHosts || c.HostsPath == "" {
		return
	}
	h := runtime.Hosts{Hostname: c.Hostname, Domain: c.Domain, Extra: r.ExtraHosts}
	for _, p := range n.dual(r.addresses()) {
		h.Addresses = append(h.Addresses, p.Addr())
	}
	if err := writeHosts(c.HostsPath, h); err != nil {
		n.log.Warn("a container's /etc/hosts was not written", "container", c.Name, "file", c.HostsPath, "err", err)
	}
}

func writeHosts(path string, h runtime.Hosts) error {
	was, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := h.Merge(string(was))
	if err != nil || text == string(was) {
		return err
	}
	return overwrite(path, text)
}

// overwrite changes what is in a file, which stays the same one.
func overwrite(path, text string) error {
	// Whoever made the file chose where it is; a link there is not followed.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// addrsOf are the addresses without their subnets.
func addrsOf(list []netip.Prefix) []netip.Addr {
	out := make([]netip.Addr, 0, len(list))
	for _, p := range list {
		out = append(out, p.Addr())
	}
	return out
}
