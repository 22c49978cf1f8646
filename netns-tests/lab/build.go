package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	// binaryVar names the weave binary to use; unset, one is built.
	binaryVar    = "WEAVE_BIN"
	binaryErrVar = "WEAVE_LAB_BIN_ERROR"
	// raceVar set to 1 builds that binary with the race detector (needs a C
	// compiler); its reports land in the daemon's log, where Lab.Complaints
	// looks for them.
	raceVar = "WEAVE_LAB_RACE"
)

// Binary is the path of the weave binary under test.
func Binary() (string, error) {
	if why := os.Getenv(binaryErrVar); why != "" {
		return "", errors.New(why)
	}
	if p := os.Getenv(binaryVar); p != "" {
		return p, nil
	}
	return "", fmt.Errorf("no weave binary: %s is not set", binaryVar)
}

// ensureBinary builds weave unless the caller brought one. It runs before the
// namespaces are entered: in there is no network to fetch modules from.
func ensureBinary() (cleanup func(), err error) {
	nothing := func() {}
	if p := os.Getenv(binaryVar); p != "" {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nothing, err
		}
		return nothing, os.Setenv(binaryVar, abs)
	}
	dir, err := os.MkdirTemp("", "weave-bin-")
	if err != nil {
		return nothing, err
	}
	cleanup = func() { _ = os.RemoveAll(dir) }
	out := filepath.Join(dir, "weave")
	args := []string{"build", "-tags", "remote", "-o", out}
	cgo := "CGO_ENABLED=0"
	if os.Getenv(raceVar) == "1" {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	cmd := exec.Command("go", append(args, "weave/cmd/weave")...)
	cmd.Env = append(os.Environ(), cgo)
	if text, err := cmd.CombinedOutput(); err != nil {
		return cleanup, fmt.Errorf("build weave: %w\n%s", err, text)
	}
	return cleanup, os.Setenv(binaryVar, out)
}
