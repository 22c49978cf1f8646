package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"weave/internal/api"
	"weave/runtime"
	"weave/runtime/netlink"
)

// place is where something is attached.
type place struct {
	target    runtime.Target     // resolved; zero for a container that does not run
	ident     string             // what its addresses are held under
	nameIdent string             // what its names are held under
	container *runtime.Container // nil: a plain namespace
}

// locate finds what a user means: a path, a container of an engine by name or id,
// a namespace's name, a pid.
func (n *node) locate(ctx context.Context, text string) (place, error) {
	if strings.Contains(text, "/") {
		return n.plain(text)
	}
	c, asked, err := n.findContainer(ctx, text)
	if err != nil {
		return place{}, err
	}
	if c != nil {
		return n.placeOf(ctx, *c)
	}
	p, err := n.plain(text)
	if errors.Is(err, netlink.ErrNoTarget) && asked != "" {
		return p, &api.StatusError{Code: 400, Text: fmt.Sprintf("unable to inspect container %s: no such container (%s), and %v", text, asked, err)}
	}
	return p, err
}

// plain finds a namespace that no engine is asked about.
func (n *node) plain(text string) (place, error) {
	t, err := n.host.Resolve(text)
	if err != nil {
		return place{}, err
	}
	ident := n.attachments.identOf(t.ID)
	return place{target: t, ident: ident, nameIdent: ident}, nil
}

// findContainer asks the engines. asked says what they answered, for the user; it
// is "" where there are none.
func (n *node) findContainer(ctx context.Context, ref string) (found *runtime.Container, asked string, err error) {
	only, rest, named := strings.Cut(ref, ":")
	var answers []string
	for _, l := range n.containers.engines {
		if l.quietYet(l.state.Load()) {
			continue
		}
		look := ref
		if named {
			if look = rest; only != l.name {
				continue
			}
		}
		c, err := l.inspect(ctx, look)
		switch {
		case errors.Is(err, runtime.ErrNoContainer):
			answers = append(answers, "asked "+l.name)
		case err != nil:
			answers = append(answers, err.Error())
		case found != nil && found.ID != c.ID && found.Running != c.Running: // what runs is what is meant
			if c.Running {
				found = &c
			}
		case found != nil && found.ID != c.ID:
			return nil, "", api.BadRequest(fmt.Sprintf("both %s and %s have a container %s: say %s:%s or %s:%s",
				found.Engine, l.name, ref, found.Engine, ref, l.name, ref))
		default:
			found = &c
		}
	}
	return found, strings.Join(answers, "; "), nil
}

// placeOf is where a container is.
func (n *node) placeOf(ctx context.Context, c runtime.Container) (place, error) {
	p := place{container: &c, ident: c.ID, nameIdent: c.ID}
	if owner, ok := strings.CutPrefix(c.NetworkMode, "container:"); ok && owner != "" {
		p.ident = owner
	}
	if c.OnHost() {
		return p, netlink.ErrHostNamespace
	}
	if !c.Running {
		return p, nil
	}
	t, err := n.host.Resolve(strconv.Itoa(c.PID))
	if errors.Is(err, netlink.ErrNoTarget) {
		return p, api.BadRequest(fmt.Sprintf("Container %s died", c.ID))
	}
	if err != nil {
		return p, err
	}
	p.target = t
	gone, err := n.attachments.supplanted(t, p.ident)
	if err == nil && gone != "" {
		err = n.bury(ctx, gone)
	}
	if err != nil {
		return p, err
	}
	// A namespace that is attached keeps the holder that it has.
	if held := n.attachments.identOf(t.ID); held != t.ID.String() {
		p.ident = held
	}
	return p, nil
}

// notRunning is the error for a container that has to run.
func (p place) notRunning() error {
	if p.container == nil || p.container.Running {
		return nil
	}
	return api.BadRequest(fmt.Sprintf("container %s not running", p.container.ID))
}
