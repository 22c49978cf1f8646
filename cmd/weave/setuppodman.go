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

// podmanFiles are the files that have Podman run the hook. Root's Podman looks in a directory of the system's by itself;
// a user's has to be told of one.
func (inv *invocation) podmanFiles(all bool, dir string) ([]namedText, error) {
	told := dir != ""
	if !told {
		dir = "/etc/containers/oci/hooks.d"
	}
	config := ""
	if os.Geteuid() != 0 {
		base, err := os.UserConfigDir()
		if err != nil {
			return nil, fmt.Errorf("cannot tell where Podman looks for its configuration: %w", err)
		}
		if !told {
			dir = filepath.Join(base, "containers", "oci", "hooks.d")
		}
		config = filepath.Join(base, "containers", "containers.conf.d", "50-weave.conf")
	}
	hook, err := inv.hookText(all)
	if err != nil {
		return nil, err
	}
	files := []namedText{{filepath.Join(dir, "weave.json"), hook}}
	if config != "" {
		files = append(files, namedText{config, "# Made by weave setup-podman.\n[engine]\nhooks_dir = [" + strconv.Quote(dir) + "]\n"})
	}
	return files, nil
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
