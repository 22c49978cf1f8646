package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// dirs are where a daemon keeps its things, as absolute paths. Two daemons with different ones know nothing of each
// other.
type dirs struct {
	state string // survives: identity, targets, what is attached, the log
	run   string // of this boot: sockets and the lock
}

// stateFile is the name of the daemon's database in the state directory. That it exists means that a daemon ran here
// and was not reset since.
const stateFile = "weave.db"

// findDirs chooses the directories: by environment, the system's for root, the user's own (XDG) for others.
func findDirs() (dirs, error) {
	state, err := findState(os.Getenv, os.Geteuid())
	if err != nil {
		return dirs{}, err
	}
	d := dirs{state: state, run: findRun(os.Getenv, os.Geteuid(), state)}
	if d.state, err = filepath.Abs(d.state); err != nil {
		return dirs{}, err
	}
	if d.run, err = filepath.Abs(d.run); err != nil {
		return dirs{}, err
	}
	return d, nil
}

func findState(getenv func(string) string, uid int) (string, error) {
	if dir := getenv("WEAVE_STATE_DIR"); dir != "" {
		return dir, nil
	}
	if uid == 0 {
		return "/var/lib/weave", nil
	}
	if base := getenv("XDG_STATE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "weave"), nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", fmt.Errorf("cannot tell where to keep state: set HOME or WEAVE_STATE_DIR")
	}
	return filepath.Join(home, ".local", "state", "weave"), nil
}

// findRun falls back on the state directory where a user has no run directory (su, cron): it is at least private.
func findRun(getenv func(string) string, uid int, state string) string {
	if dir := getenv("WEAVE_RUN_DIR"); dir != "" {
		return dir
	}
	if uid == 0 {
		return "/run/weave"
	}
	if base := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) {
		return filepath.Join(base, "weave")
	}
	if base := filepath.Join("/run/user", strconv.Itoa(uid)); isDir(base) {
		return filepath.Join(base, "weave")
	}
	return filepath.Join(state, "run")
}

// prepare makes both directories. Ones that exist are left as they are, unless others could put files in them.
func (d dirs) prepare() error {
	for _, dir := range []string{d.state, d.run} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("%w: set WEAVE_STATE_DIR and WEAVE_RUN_DIR to directories of yours", err)
		}
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("directory %s can be written by other users (mode %v): choose another, or chmod go-w",
				dir, info.Mode().Perm())
		}
	}
	return nil
}

// launched tells whether a daemon has left state here.
func (d dirs) launched() bool {
	_, err := os.Stat(filepath.Join(d.state, stateFile))
	return err == nil
}

func (d dirs) logPath() string { return filepath.Join(d.state, "weave.log") }

func (d dirs) lockPath() string { return filepath.Join(d.run, "weave.lock") }

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
