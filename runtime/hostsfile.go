package runtime

import (
	"fmt"
	"net/netip"
	"strings"
)

// The marks around what we write to /etc/hosts: Weave Net's, which scripts look for.
const (
	hostsBegin = "# created by Weave - BEGIN"
	hostsEnd   = "# created by Weave - END"
)

// Hosts is what a container's /etc/hosts is to say.
type Hosts struct {
	Hostname  string       // "" = the addresses get no line
	Domain    string       // may end in a dot; "" = none
	Addresses []netip.Addr // of the overlay
	Extra     []string     // NAME:ADDRESS, as --add-host takes them
}

// Text is the whole file (hosts(5)).
func (h Hosts) Text() (string, error) {
	var b strings.Builder
	line := func(address, names string) { fmt.Fprintf(&b, "%-15s %s\n", address, names) }
	b.WriteString(hostsBegin + "\n")
	if h.Hostname != "" {
		names := h.Hostname
		if domain := strings.TrimSuffix(h.Domain, "."); domain != "" {
			names = h.Hostname + "." + domain + " " + h.Hostname
		}
		for _, a := range h.Addresses {
			line(a.String(), names)
		}
	}
	for _, extra := range h.Extra {
		name, address, ok := strings.Cut(extra, ":")
		if _, err := netip.ParseAddr(strings.Trim(address, "[]")); !ok || name == "" || err != nil || strings.ContainsAny(name, " \t\n#") {
			return "", fmt.Errorf("invalid host %q, should be NAME:ADDRESS", extra)
		}
		line(strings.Trim(address, "[]"), name)
	}
	line("127.0.0.1", "localhost")
	line("::1", "ip6-localhost ip6-loopback localhost")
	line("fe00::0", "ip6-localnet")
	line("ff00::0", "ip6-mcastprefix")
	line("ff02::1", "ip6-allnodes")
	line("ff02::2", "ip6-allrouters")
	b.WriteString(hostsEnd + "\n")
	return b.String(), nil
}
