package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"weave/internal/api"
	"weave/internal/node"
)

const (
	hookInput     = 1 << 20         // bytes that a runtime's state may have
	hookTimeout   = 30              // seconds that the runtime waits
	labelsTimeout = 5 * time.Second // for the engine's answer
)

// ociHook is what an OCI runtime runs before a container's process starts, and after it ended. Containers that do not
// ask for the network are left alone, without asking the daemon.
func (inv *invocation) ociHook(c *cli.Context) error {
	ctx, cancel := context.WithTimeout(c.Context, (hookTimeout-2)*time.Second)
	defer cancel()
	req, err := readHook(ctx, os.Stdin, c.Bool("all"))
	if err != nil {
		return fmt.Errorf("weave: %w", err)
	}
	wanted, err := node.HookWanted(req)
	if err != nil {
		return fmt.Errorf("weave: %w", err)
	}
	if !wanted {
		return nil
	}
	reply, err := inv.client().Hook(ctx, req)
	if err == nil {
		err = node.WriteHookFiles(req, reply)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, api.ErrNotRunning) && c.Bool("all"):
		inv.warn("weave is not running: the container starts without its network")
		return nil
	case errors.Is(err, api.ErrNotRunning):
		return errors.New("weave: the container asks for weave's network, but weave is not running: start it with 'weave launch'")
	}
	return &exitError{codeFailed, "weave: " + err.Error()} // among the messages of others
}

// readHook collects what is known of the container: the runtime's state on stdin, the bundle's config.json, and the
// labels, which only the engine has.
func readHook(ctx context.Context, stdin io.Reader, all bool) (api.HookRequest, error) {
	req := api.HookRequest{Engine: "podman", All: all}
	state, err := io.ReadAll(io.LimitReader(stdin, hookInput))
	if err != nil {
		return req, fmt.Errorf("read the runtime's state: %w", err)
	}
	var st struct{ ID, Bundle string }
	if err := json.Unmarshal(state, &st); err != nil {
		return req, fmt.Errorf("read the runtime's state (is this run as an OCI hook?): %w", err)
	}
	req.State = state
	config, err := os.ReadFile(filepath.Join(st.Bundle, "config.json"))
	if err != nil {
		return req, fmt.Errorf("read the bundle: %w", err)
	}
	req.Config = json.RawMessage(config)
	if req.Name, req.Labels, err = podmanLabels(ctx, st.ID); err != nil {
		fmt.Fprintln(os.Stderr, "weave: labels are not seen, only annotations and the environment:", err)
	}
	return req, nil
}

// podmanLabels finds a container's name and labels in the event of its making: while it starts Podman locks it, so that
// inspecting it would wait for ever.
func podmanLabels(ctx context.Context, id string) (name string, labels map[string]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, labelsTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "podman", "events", "--stream=false", "--format", "json",
		"--filter", "container="+id, "--filter", "event=create").Output()
	if err != nil {
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(failed.Stderr))
		}
		return "", nil, fmt.Errorf("podman events: %w", err)
	}
	for line := range bytes.Lines(out) {
		var ev struct {
			Name       string
			Attributes map[string]string
		}
		if json.Unmarshal(line, &ev) == nil && ev.Name != "" {
			name, labels = ev.Name, ev.Attributes
		}
	}
	return name, labels, nil
}
