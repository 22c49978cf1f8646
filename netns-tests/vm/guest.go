package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed init.sh
var initScript []byte

// boot starts a guest, has it run a shell command as root and waits until it is off. What the command writes is in the
// file that is returned; an exit code other than 0 is an error. The shared directory is the one place of the machine that
// the guest can write to.
func boot(ctx context.Context, o options, kernel, share, command string) (output string, err error) {
	output = filepath.Join(share, "output")
	for name, text := range map[string]string{"init": string(initScript), "command": command + "\n", "output": "", "code": ""} {
		if err := os.WriteFile(filepath.Join(share, name), []byte(text), 0o755); err != nil {
			return output, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	cmd, err := kernelGuest(ctx, o, kernel, share)
	if err != nil {
		return output, err
	}
	console, err := os.Create(filepath.Join(share, "console"))
	if err != nil {
		return output, err
	}
	defer console.Close()
	cmd.Stdout, cmd.Stderr = console, console
	if o.verbose {
		cmd.Stdout = io.MultiWriter(console, os.Stdout)
	}
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a guest may be several processes
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	failed := cmd.Run()
	code, err := os.ReadFile(filepath.Join(share, "code"))
	return output, errors.Join(err, explain(failed, strings.TrimSpace(string(code)), share))
}

func kernelGuest(ctx context.Context, o options, kernel, share string) (*exec.Cmd, error) {
	switch kernel {
	case "uml":
		return umlGuest(ctx, o, share)
	case "debian":
		d, err := fetchDebian(ctx, o.cache)
		if err != nil {
			return nil, err
		}
		return d.guest(ctx, o, share)
	}
	return nil, fmt.Errorf("no kernel %q: uml or debian", kernel)
}

// explain says how a guest ended; nil if its command succeeded.
func explain(failed error, code, share string) error {
	if n, err := strconv.Atoi(code); err == nil {
		if n == 0 {
			return nil
		}
		return fmt.Errorf("the command in the guest ended with code %d", n)
	}
	console, _ := os.ReadFile(filepath.Join(share, "console"))
	text := string(console)
	if len(text) > 4000 {
		text = "…" + text[len(text)-4000:]
	}
	return fmt.Errorf("the guest did not end its command: %w\n%s", errors.Join(failed, errors.New("no exit code")), text)
}

// quote makes one word of a shell of it.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
