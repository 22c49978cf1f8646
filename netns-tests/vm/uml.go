package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
)

// umlModules is where Debian's package keeps the modules of its kernels, one directory a version.
const umlModules = "/usr/lib/uml/modules"

// umlGuest is the command that boots User Mode Linux. The kernel takes the machine's root as its own, and init.sh from the
// shared directory as its first process.
func umlGuest(ctx context.Context, o options, share string) (*exec.Cmd, error) {
	kernel, err := exec.LookPath("linux.uml")
	if err != nil {
		return nil, errors.New("no linux.uml: scripts/tools.sh linux.uml installs it (as root)")
	}
	overlay, _ := filepath.Glob(filepath.Join(umlModules, "*/kernel/fs/overlayfs/overlay.ko"))
	if len(overlay) == 0 {
		return nil, fmt.Errorf("no modules in %s: the package user-mode-linux has them", umlModules)
	}
	return exec.CommandContext(ctx, kernel, "mem="+o.memory, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
		"init="+filepath.Join(share, "init"), "share="+share, "modules="+umlModules, "overlay="+overlay[len(overlay)-1],
		"quiet", "con=null", "con0=null,fd:1", "con1=null", "panic=-1"), nil // a panic ends it
}
