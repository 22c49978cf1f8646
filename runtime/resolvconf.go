package runtime

import (
	"net/netip"
	"slices"
	"strings"
)

// LabelDNS is "false" on containers whose resolv.conf is to stay as it is.
const LabelDNS = "weave.dns"

// Resolver is what a container's resolv.conf is to say.
type Resolver struct {
	Server netip.Addr // invalid = it stays as it is
	Domain string     // searched before others
}

// Merge is the file that was (resolv.conf(5)) with our server as the only one, which knows all other names too, and our
// domain before what was searched. Options stay.
func (r Resolver) Merge(was string) string {
	if !r.Server.IsValid() {
		return was
	}
	search := []string{strings.TrimSuffix(r.Domain, ".")}
	var rest strings.Builder
	for line := range strings.Lines(was) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case fields[0] == "nameserver":
		case fields[0] == "search" || fields[0] == "domain":
			for _, d := range fields[1:] {
				if d != "." && !slices.Contains(search, d) {
					search = append(search, d)
				}
			}
		default:
			rest.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	return "nameserver " + r.Server.String() + "\nsearch " + strings.Join(search, " ") + "\n" + rest.String()
}
