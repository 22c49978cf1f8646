package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	connectTimeout = 3 * time.Second
	maxReply       = 256 << 20 // bytes
)

// Client calls a daemon's control socket. Its methods return the text the daemon answered with. Errors: ErrNotRunning
// when nobody listens, *StatusError when the daemon said no, anything else when the call failed on its way.
type Client struct {
	// Warn is told what the daemon warns of beside its answers; nil: nobody is.
	Warn func(text string)

	http *http.Client
}

// NewClient makes a client for the socket at path. It connects when it is used, anew for each call.
func NewClient(path string) *Client {
	dialer := &net.Dialer{Timeout: connectTimeout}
	return &Client{http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
	}}}
}

// Connect adds targets to what the daemon dials, or makes them the whole list.
func (c *Client) Connect(ctx context.Context, targets []string, replace bool) error {
	form := url.Values{"peer": targets}
	if replace {
		form.Set("replace", "true")
	}
	_, err := c.post(ctx, "/connect", form)
	return err
}

// Forget removes targets.
func (c *Client) Forget(ctx context.Context, targets []string) error {
	_, err := c.post(ctx, "/forget", url.Values{"peer": targets})
	return err
}

// Status fetches the text of a sub-command of status, or of status itself for "".
func (c *Client) Status(ctx context.Context, sub string) (string, error) {
	path := "/status"
	if sub != "" {
		path += "/" + url.PathEscape(sub)
	}
	return c.do(ctx, http.MethodGet, path, nil, "")
}

// Report fetches the report as JSON.
func (c *Client) Report(ctx context.Context) (string, error) {
	return c.do(ctx, http.MethodGet, "/report", nil, "application/json")
}

// Format has the daemon fill in a template with its report.
func (c *Client) Format(ctx context.Context, format string) (string, error) {
	return c.do(ctx, http.MethodGet, "/report", url.Values{"format": {format}}, "")
}

// Attach joins a namespace; addrs are in the notation of the command line.
func (c *Client) Attach(ctx context.Context, target string, addrs []string, noMulticastRoute bool) (string, error) {
	form := url.Values{"target": {target}, "addr": addrs}
	if noMulticastRoute {
		form.Set("no-multicast-route", "true")
	}
	return c.AttachWith(ctx, form)
}

// AttachWith is Attach with all that the daemon takes: also name, several, and without-dns.
func (c *Client) AttachWith(ctx context.Context, form url.Values) (string, error) {
	return c.post(ctx, "/attach", form)
}

// Detach removes addresses from a namespace, and its interface with the last one.
func (c *Client) Detach(ctx context.Context, target string, addrs []string) (string, error) {
	return c.do(ctx, http.MethodDelete, "/attach", url.Values{"target": {target}, "addr": addrs}, "")
}

// Containers fetches the text of ps.
func (c *Client) Containers(ctx context.Context, names []string) (string, error) {
	return c.do(ctx, http.MethodGet, "/ps", url.Values{"name": names}, "")
}

// Version fetches the daemon's version.
func (c *Client) Version(ctx context.Context) (string, error) {
	text, err := c.do(ctx, http.MethodGet, "/version", nil, "")
	return strings.TrimSpace(text), err
}

// Instance fetches the id of the running daemon.
func (c *Client) Instance(ctx context.Context) (string, error) {
	text, err := c.do(ctx, http.MethodGet, "/instance", nil, "")
	return strings.TrimSpace(text), err
}

// AddPassword has the daemon accept one more password.
func (c *Client) AddPassword(ctx context.Context, password string) error {
	_, err := c.post(ctx, "/password/add", url.Values{"password": {password}})
	return err
}

// RetirePassword has the daemon accept a password, or that of an ID, no longer.
func (c *Client) RetirePassword(ctx context.Context, which string) error {
	_, err := c.post(ctx, "/password/retire", url.Values{"password": {which}})
	return err
}

// Passwords fetches the text of password list.
func (c *Client) Passwords(ctx context.Context) (string, error) {
	return c.do(ctx, http.MethodGet, "/password", nil, "")
}

// Stop asks the daemon to end; it does so after this returned.
func (c *Client) Stop(ctx context.Context) error {
	_, err := c.post(ctx, "/stop", nil)
	return err
}

// HandOver gives what this peer owns of the network to others, before a reset.
func (c *Client) HandOver(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodDelete, "/peer", nil, "")
	return err
}

// Prime waits until the network has agreed on who shares the address range.
func (c *Client) Prime(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodGet, "/ring", nil, "")
	return err
}

// RemovePeer takes over the space of a dead peer.
func (c *Client) RemovePeer(ctx context.Context, peer string) (string, error) {
	return c.do(ctx, http.MethodDelete, "/peer/"+url.PathEscape(peer), nil, "")
}

// Repair settles disagreements about the ring.
func (c *Client) Repair(ctx context.Context) (string, error) {
	return c.post(ctx, "/ipinfo/repair", nil)
}

// Check fetches the text of ipam check.
func (c *Client) Check(ctx context.Context) (string, error) {
	return c.do(ctx, http.MethodGet, "/status/ipam/check", nil, "")
}

// Waiting fetches what requests for addresses wait for, one reason a line.
func (c *Client) Waiting(ctx context.Context) (string, error) {
	return c.do(ctx, http.MethodGet, "/ipinfo/waiting", nil, "")
}

// Reset has the daemon remove everything of ours, and end.
func (c *Client) Reset(ctx context.Context) error {
	_, err := c.post(ctx, "/reset", nil)
	return err
}

// Hook tells the daemon what an OCI hook was told.
func (c *Client) Hook(ctx context.Context, hook HookRequest) (reply HookReply, err error) {
	body, err := json.Marshal(hook)
	if err != nil {
		return reply, fmt.Errorf("api: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://weave/hook", bytes.NewReader(body))
	if err != nil {
		return reply, fmt.Errorf("api: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	text, err := c.send(req)
	if err != nil {
		return reply, err
	}
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		return reply, fmt.Errorf("api: read the daemon's answer: %w", err)
	}
	return reply, nil
}

func (c *Client) post(ctx context.Context, path string, form url.Values) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://weave"+path, strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("api: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.send(req)
}

func (c *Client) do(ctx context.Context, method, path string, query url.Values, accept string) (string, error) {
	address := "http://weave" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return "", fmt.Errorf("api: %w", err)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	return c.send(req)
}

func (c *Client) send(req *http.Request) (string, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
			return "", ErrNotRunning
		}
		if errors.Is(err, syscall.EACCES) {
			return "", fmt.Errorf("weave serves only the user who launched it, and root: %w", err)
		}
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return "", fmt.Errorf("api: read the daemon's answer: %w", err)
	}
	if c.Warn != nil {
		for _, text := range resp.Header.Values(warningHeader) {
			c.Warn(text)
		}
	}
	if resp.StatusCode/100 != 2 {
		return "", &StatusError{Code: resp.StatusCode, Text: strings.TrimSuffix(string(body), "\n")}
	}
	return string(body), nil
}
