package runtime

import (
	"regexp"
	"strings"
)

// MaxHostname is how many bytes a host name and its domain may have together: what the kernel holds (uts_namespace(7)).
const MaxHostname = 64

// Naming derives the host names of containers that were given none.
type Naming struct {
	Domain      string         // such as "weave.local."; "" = no names are given
	FromLabel   string         // the label whose value is taken in place of the container's name; "" = none
	Match       *regexp.Regexp // nil = everything
	Replacement string         // in regexp.Expand's syntax, used with Match
}

// Hostname is the host name of a container with that name and those labels; false if there is none to give: no domain,
// no name, or one that the kernel does not hold together with the domain.
func (n Naming) Hostname(name string, labels map[string]string) (string, bool) {
	if n.Domain == "" {
		return "", false
	}
	if n.FromLabel != "" {
		if value, ok := labels[n.FromLabel]; ok {
			name = value
		}
	}
	if n.Match != nil {
		name = n.Match.ReplaceAllString(name, n.Replacement)
	}
	fits := len(name)+1+len(strings.TrimSuffix(n.Domain, ".")) <= MaxHostname
	return name, name != "" && fits
}
