package runtime

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The marks around what we write to /etc/hosts: Weave Net's, which scripts look for.
const (
	hostsBegin = "# created by Weave - BEGIN"
	hostsEnd   = "# created by Weave - END"
)

// Hosts is what a container's /etc/hosts is to say of the overlay.
type Hosts struct {
	Hostname  string       // "" = the addresses get no line
	Domain    string       // may end in a dot; "" = none
	Addresses []netip.Addr // of the overlay
	Extra     []string     // NAME:ADDRESS, as --add-host takes them
}

// Merge is the file that was (hosts(5)) with ours between marks before the rest: a block of ours from earlier goes, and
// so do lines about the host name that are not ours, which would lead to the engine's own network. The rest stays.
func (h Hosts) Merge(was string) (string, error) {
	var b strings.Builder
	b.WriteString(hostsBegin + "\n")
	line := func(address, names string) { fmt.Fprintf(&b, "%-15s %s\n", address, names) }
	full := h.Hostname
	if domain := strings.TrimSuffix(h.Domain, "."); domain != "" && h.Hostname != "" {
		full = h.Hostname + "." + domain
	}
	for _, a := range h.Addresses {
		if h.Hostname != "" {
			line(a.String(), strings.Join(slices.Compact([]string{full, h.Hostname}), " "))
		}
	}
	for _, extra := range h.Extra {
		name, address, err := splitHost(extra)
		if err != nil {
			return "", err
		}
		line(address.String(), name)
	}
	b.WriteString(hostsEnd + "\n")
	rest := h.keep(was)
	if !strings.Contains(rest, "localhost") {
		line("127.0.0.1", "localhost")
		line("::1", "localhost ip6-localhost ip6-loopback")
	}
	b.WriteString(rest)
	return b.String(), nil
}

// keep is what stays of a file.
func (h Hosts) keep(was string) string {
	var b strings.Builder
	inside := false
	for text := range strings.Lines(was) {
		switch strings.TrimSpace(text) {
		case hostsBegin:
			inside = true
		case hostsEnd:
			inside = false
			continue
		}
		fields := strings.Fields(text)
		if inside || (h.Hostname != "" && len(fields) > 1 && slices.Contains(fields[1:], h.Hostname)) {
			continue
		}
		b.WriteString(strings.TrimSuffix(text, "\n") + "\n")
	}
	return b.String()
}

// CheckHost reports why a host cannot be added.
func CheckHost(extra string) error {
	_, _, err := splitHost(extra)
	return err
}

func splitHost(extra string) (name string, address netip.Addr, err error) {
	name, text, ok := strings.Cut(extra, ":")
	address, err = netip.ParseAddr(strings.Trim(text, "[]"))
	if !ok || err != nil || name == "" || strings.ContainsAny(name, " \t\r\n#") {
		return "", address, fmt.Errorf("invalid host %q, should be NAME:ADDRESS", extra)
	}
	return name, address, nil
}
