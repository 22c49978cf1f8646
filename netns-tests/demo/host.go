package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"weave/netns-tests/lab"
)

// host is a host on which root uses weave, or, where the demo has no rights, an ordinary user.
type host struct {
	*lab.Host
	user *lab.User
}

func hosts(l *lab.Lab) ([]host, error) {
	var all []host
	for _, h := range l.Hosts {
		at := host{Host: h}
		if lab.Ordinary() {
			var err error
			if at.user, err = h.NewUser(); err != nil {
				return nil, err
			}
		}
		all = append(all, at)
	}
	return all, nil
}

// weave runs the weave command.
func (h host) weave(args ...string) lab.Result {
	switch {
	case h.user == nil:
		return h.Weave(args...)
	case args[0] == "launch":
		return h.user.Launch(args[1:]...)
	}
	return h.user.Weave(args...)
}

// address is where other hosts reach this one's daemon.
func (h host) address() string {
	if h.user != nil {
		return h.user.Address()
	}
	return h.IP
}

func (h host) log() string {
	if h.user != nil {
		return h.user.Log()
	}
	return h.Log()
}

// container is a namespace of a host's.
type container struct {
	*lab.NS
	on     host
	target string // what `weave attach` calls it
}

func (h host) container() (container, error) {
	if h.user != nil {
		b, err := h.user.NewBox()
		if err != nil {
			return container{}, err
		}
		return container{b.NS, h, strconv.Itoa(b.PID)}, nil
	}
	c, err := h.NewContainer()
	if err != nil {
		return container{}, err
	}
	return container{c.NS, h, c.Name}, nil
}

// lookup asks the host's name server for a name, as a program in the container does.
func (c container) lookup(name string) ([]string, error) {
	args := c.on.weave("dns-args")
	server, ok := strings.CutPrefix(strings.Fields(args.Stdout + " -")[0], "--dns=")
	if !ok {
		return nil, fmt.Errorf("no name server: %v", args)
	}
	r := net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (conn net.Conn, err error) {
		failed := c.Do(func() error {
			conn, err = net.Dial(network, net.JoinHostPort(server, "53"))
			return err
		})
		return conn, failed
	}}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return r.LookupHost(ctx, name)
}
