package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// The ordinary user that every machine has, with users of their own for containers (subuid(5)).
const (
	machineUser    = "weave-tester"
	machineUserID  = 54321
	firstSubordine = 600000
)

// accounts writes the machine's account files: this one's, and the ordinary user.
func (m *Machine) accounts() error {
	dir := filepath.Join(m.disk, "accounts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	subordinate := fmt.Sprintf("%s:%d:65536\n", machineUser, firstSubordine)
	for name, line := range map[string]string{
		"passwd": fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", machineUser, machineUserID, machineUserID, m.home()),
		"group":  fmt.Sprintf("%s:x:%d:\n", machineUser, machineUserID),
		"subuid": subordinate, "subgid": subordinate,
	} {
		text, err := os.ReadFile("/etc/" + name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), append(text, line...), 0o644); err != nil {
			return err
		}
	}
	config := filepath.Join(m.home(), ".config/containers")
	if err := os.MkdirAll(config, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(config, "storage.conf"), []byte("[storage]\ndriver = \"overlay\"\n"), 0o644); err != nil {
		return err
	}
	if err := os.Chmod(m.disk, 0o755); err != nil {
		return err
	}
	return filepath.WalkDir(m.home(), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, machineUserID, machineUserID)
	})
}

func (m *Machine) home() string { return filepath.Join(m.disk, "home") }

// AsUser runs a command on the machine as its ordinary user, with what a login session has.
func (m *Machine) AsUser(args ...string) Result { return m.AsUserWith("", args...) }

// AsUserWith is AsUser with input.
func (m *Machine) AsUserWith(stdin string, args ...string) Result {
	run := fmt.Sprintf("/run/user/%d", machineUserID)
	made := fmt.Sprintf("mkdir -p %s; chown %d:%d %s; cd %s; exec \"$@\"", run, machineUserID, machineUserID, run, m.home())
	id := strconv.Itoa(machineUserID)
	all := append([]string{
		"sh", "-c", made, "sh", "setpriv", "--reuid=" + id, "--regid=" + id, "--init-groups", "env", "-u", "SUDO_UID",
		"HOME=" + m.home(), "USER=" + machineUser, "XDG_RUNTIME_DIR=" + run,
	}, args...)
	return m.RunEnv(nil, stdin, all...)
}

// WeaveAsUser runs a copy of the weave binary as the ordinary user.
func (m *Machine) WeaveAsUser(args ...string) Result {
	bin := filepath.Join(m.disk, "weave")
	if _, err := os.Stat(bin); err != nil {
		from, err := m.Host.binary()
		if err == nil {
			err = copyFile(bin, from)
		}
		if err != nil {
			return Result{Args: args, RC: -1, Err: err}
		}
	}
	return m.AsUser(append([]string{bin}, args...)...)
}

// copyFile copies a program.
func copyFile(to, from string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o755)
}
