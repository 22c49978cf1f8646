package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"weave/internal/api"
)

const (
	defaultHostProxy = "127.0.0.1:1080" // SOCKS's port (RFC 1928)
	pingInterval     = time.Second
	pingTimeout      = 5 * time.Second
)

// proxyVerb has programs of the host connect to the network by SOCKS5 and HTTP.
func (inv *invocation) proxyVerb(c *cli.Context) error {
	at := defaultHostProxy
	switch {
	case c.NArg() > 1:
		return &usageError{}
	case c.Bool("off"):
		at = ""
	case c.NArg() == 1:
		at = c.Args().First()
	}
	text, err := inv.client().HostProxy(c.Context, at)
	if at == "" {
		return err
	}
	return inv.print(text, err)
}

// ping asks a container for answers, as ping(8) does.
func (inv *invocation) ping(c *cli.Context) error {
	if c.NArg() != 1 || c.Int("c") < 1 {
		return &usageError{}
	}
	lost := 0
	for i := range c.Int("c") {
		if i > 0 {
			select {
			case <-c.Context.Done():
				return c.Context.Err()
			case <-time.After(pingInterval):
			}
		}
		ctx, cancel := context.WithTimeout(c.Context, pingTimeout)
		text, err := inv.client().Ping(ctx, c.Args().First())
		late := ctx.Err() != nil && c.Context.Err() == nil
		cancel()
		if late {
			lost++
			continue
		}
		if err != nil {
			return err
		}
		if err := inv.print(text, nil); err != nil {
			return err
		}
	}
	if lost > 0 {
		return &exitError{codeFailed, fmt.Sprintf("%d of %d got no answer within %v", lost, c.Int("c"), pingTimeout)}
	}
	return nil
}

// dial tries to connect to a TCP port on the network, and says how long that took.
func (inv *invocation) dial(c *cli.Context) error {
	began := time.Now()
	s, err := inv.stream(c)
	if err != nil {
		return err
	}
	took := time.Since(began)
	return inv.print(fmt.Sprintf("%s %.3f ms\n", s.To, float64(took)/float64(time.Millisecond)), s.Close())
}

// stream connects to the host and port that the command names.
func (inv *invocation) stream(c *cli.Context) (*api.Stream, error) {
	if c.NArg() != 2 {
		return nil, &usageError{}
	}
	port, err := strconv.ParseUint(c.Args().Get(1), 10, 16)
	if err != nil || port == 0 {
		return nil, &usageError{}
	}
	s, err := api.Dial(c.Context, filepath.Join(inv.dirs.run, api.SocketName), c.Args().First(), uint16(port))
	if refused, ok := err.(*api.StatusError); ok {
		return nil, &exitError{codeFailed, strings.TrimSpace(refused.Text)}
	}
	return s, err
}

// nc joins standard input and output to a TCP port on the network.
func (inv *invocation) nc(c *cli.Context) error {
	s, err := inv.stream(c)
	if err != nil {
		return err
	}
	defer s.Close()
	go func() { // ends with the process at the latest: standard input may never end
		_, _ = io.Copy(s, os.Stdin)
		_ = s.CloseWrite()
	}()
	_, err = io.Copy(inv.stdout, s)
	return err
}
