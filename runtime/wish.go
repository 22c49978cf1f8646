package runtime

import (
	"fmt"
	"strings"
)

// How a container says what addresses it wants. The environment is Weave Net's way.
const (
	EnvAddresses   = "WEAVE_CIDR" // address arguments with spaces between, "" = the default subnet, "none" = leave it alone
	LabelAddresses = "weave.cidr" // the same as a label; the environment goes before it
	LabelAttach    = "weave"      // "true" or "": attach it; "false" or "none": do not
	LabelHostname  = "weave.name" // names for DNS with spaces between, besides the container's own
)

// none is the value that wishes for nothing.
const none = "none"

// Wish is what a container's own settings ask for.
type Wish struct {
	Wanted    bool
	Addresses []string // as `weave attach` takes them; none of them: one of the default subnet
	Names     []string // for DNS, besides its own
}

// WishOf reads a container's settings. shimmed containers, which the proxy made to wait for the interface, are wanted
// unless they say otherwise; others only if they say so, or if all are. Containers with the host's network never are:
// one that asks for addresses nevertheless gets the error to show. One that shares another's namespace is only wanted
// if it asks for addresses.
func WishOf(c Container, all bool) (Wish, error) {
	w := Wish{Names: strings.Fields(c.Labels[LabelHostname])}
	text, asked := c.Getenv(EnvAddresses)
	if !asked {
		text, asked = c.Labels[LabelAddresses]
	}
	mark, marked := c.Labels[LabelAttach]
	switch {
	case asked && strings.TrimSpace(text) == none:
		return Wish{}, nil
	case asked:
		w.Wanted, w.Addresses = true, strings.Fields(text)
	case marked:
		switch strings.ToLower(strings.TrimSpace(mark)) {
		case "", "true", "yes", "1", "on":
			w.Wanted = true
		case "false", "no", "0", "off", none:
		default:
			return Wish{}, fmt.Errorf("label %s=%q is neither true nor false", LabelAttach, mark)
		}
	default:
		w.Wanted = c.Shimmed() || (all && !c.Shares() && !c.OnHost())
	}
	if w.Wanted && c.OnHost() {
		if asked || marked {
			return Wish{}, fmt.Errorf("%s asks for the network but has the host's (--net=host)", c.Name)
		}
		return Wish{}, nil
	}
	if !w.Wanted {
		return Wish{}, nil
	}
	return w, nil
}
