package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// hookFile is an oci-hooks(5) configuration, version 1.0.0.
type hookFile struct {
	Version string    `json:"version"`
	Hook    hookEntry `json:"hook"`
	When    struct {
		Always bool `json:"always"`
	} `json:"when"`
	Stages []string `json:"stages"`
}

// hookEntry is what runs (runtime-spec, "POSIX-platform Hooks").
type hookEntry struct {
	Path    string   `json:"path"`
	Args    []string `json:"args"`
	Env     []string `json:"env"`
	Timeout int      `json:"timeout"` // seconds
}

// setupPodman has Podman run our hook for every container; --remove undoes it.
func (inv *invocation) setupPodman(c *cli.Context) error {
	if c.NArg() > 0 {
		return &usageError{}
	}
	files, err := inv.podmanFiles(c.Bool("all"), c.String("hooks-dir"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if c.Bool("remove") {
			if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
			return fmt.Errorf("%w: --hooks-dir chooses another directory", err)
		}
		if err := replaceFile(f.path, f.text); err != nil {
			return err
		}
		if err := inv.print(f.path+"\n", nil); err != nil {
			return err
		}
	}
	return nil
}

type namedText struct{ path, text string }

// systemHooks is where packages put their hooks; Podman looks there unless told otherwise.
const systemHooks = "/usr/share/containers/oci/hooks.d"

// podmanFiles are the files that have Podman run the hook: the hook, and unless dir is one that Podman is known to look
// in, what tells it to.
func (inv *invocation) podmanFiles(all bool, dir string) ([]namedText, error) {
	hook, err := inv.hookText(all)
	if err != nil {
		return nil, err
	}
	if dir != "" {
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, err
		}
		return []namedText{{filepath.Join(dir, "weave.json"), hook}}, nil
	}
	base := "/etc/containers"
	if os.Geteuid() != 0 {
		config, err := os.UserConfigDir()
		if err != nil {
			return nil, fmt.Errorf("cannot tell where Podman looks for its configuration: %w", err)
		}
		base = filepath.Join(config, "containers")
	}
	dir = filepath.Join(base, "oci", "hooks.d")
	dirs := strconv.Quote(dir)
	if isDir(systemHooks) { // Podman runs no hooks at all if one of the directories is missing
		dirs = strconv.Quote(systemHooks) + ", " + dirs
	}
	return []namedText{
		{filepath.Join(dir, "weave.json"), hook},
		{filepath.Join(base, "containers.conf.d", "50-weave.conf"), "# Made by weave setup-podman.\n[engine]\nhooks_dir = [" + dirs + "]\n"},
	}, nil
}

// hookText is the hook's configuration. Runtimes give a hook no environment of their own.
func (inv *invocation) hookText(all bool) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot tell where weave is installed: %w", err)
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return "", err
	}
	h := hookFile{Version: "1.0.0", Stages: []string{"createRuntime", "poststop"}}
	h.When.Always = true // by labels they cannot be told apart
	h.Hook = hookEntry{Path: self, Args: []string{"weave", "oci-hook"}, Timeout: hookTimeout, Env: []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"WEAVE_RUN_DIR=" + inv.dirs.run, "WEAVE_STATE_DIR=" + inv.dirs.state,
	}}
	for _, name := range []string{"HOME", "XDG_RUNTIME_DIR", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"} {
		if value := os.Getenv(name); value != "" {
			h.Hook.Env = append(h.Hook.Env, name+"="+value)
		}
	}
	if os.Geteuid() != 0 {
		// The hook runs as root of the user's namespace. Podman knows by these that it is there on behalf of the user
		// (containers/storage, pkg/unshare); without them it looks for root's containers.
		h.Hook.Env = append(h.Hook.Env, "_CONTAINERS_USERNS_CONFIGURED=done",
			"_CONTAINERS_ROOTLESS_UID="+strconv.Itoa(os.Geteuid()), "_CONTAINERS_ROOTLESS_GID="+strconv.Itoa(os.Getegid()))
	}
	if all {
		h.Hook.Args = append(h.Hook.Args, "--all")
	}
	text, err := json.MarshalIndent(h, "", "  ")
	return string(text) + "\n", err
}

// replaceFile writes a file so that nobody sees half of it.
func replaceFile(path, text string) error {
	if was, err := os.ReadFile(path); err == nil && string(was) == text {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+strings.TrimPrefix(filepath.Base(path), ".")+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
