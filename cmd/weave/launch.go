package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// How the processes of one launch know their part: by environment, which only their user can read.
const (
	envRole     = "WEAVE_LAUNCH_ROLE" // roleSupervisor, roleDaemon, or nothing for the command a user typed
	envInstance = "WEAVE_INSTANCE"    // the id of this launch, kept over restarts of the daemon

	roleSupervisor = "supervisor"
	roleDaemon     = "daemon"

	pollInterval = 50 * time.Millisecond // for the new daemon's first answer
	logTail      = 16 << 10              // bytes of log shown when the launch fails
	logTailLines = 20
)

const (
	alreadyRunning = "weave is already running; you can stop it with 'weave stop'."
	notSettled     = "weave is created, paused, or restarting; you can stop it with 'weave stop'."
	hasDied        = "The weave container has died. Consult the container logs for further details."
)

// launch starts the daemon, or is one of the processes that make it up.
func (inv *invocation) launch(c *cli.Context) error {
	opts, err := readOptions(c, inv.dirs)
	if err != nil {
		return err
	}
	switch os.Getenv(envRole) {
	case roleSupervisor:
		return inv.supervise(opts)
	case roleDaemon:
		return inv.daemon(opts, true)
	}
	for _, name := range deadFlags {
		if c.IsSet(name) {
			inv.warn("--%s is ignored: the service it was for no longer exists", name)
		}
	}
	if c.IsSet("no-detect-tls") {
		inv.warn("--no-detect-tls is ignored: the flags of dockerd never are looked at")
	}
	if err := inv.refuseSecond(c.Context); err != nil {
		return err
	}
	if err := resolvePeers(c.Context, opts.node.Peers); err != nil {
		return err
	}
	if err := inv.checkRange(c, opts.node.Addresses); err != nil {
		return err
	}
	if err := inv.dirs.prepare(); err != nil {
		return err
	}
	if c.Bool("foreground") {
		return inv.daemon(opts, false)
	}
	return inv.background(c.Context, opts)
}

// refuseSecond fails when a daemon runs already, or is about to.
func (inv *invocation) refuseSecond(ctx context.Context) error {
	if _, err := inv.client().Instance(ctx); err == nil {
		return &exitError{codeRunning, alreadyRunning}
	}
	holders, err := lockHolders(inv.dirs.lockPath())
	if err != nil {
		return err
	}
	if len(holders) > 0 {
		return &exitError{codeFailed, notSettled}
	}
	return nil
}

// background starts the supervisor and waits until the daemon answers, or has died.
func (inv *invocation) background(ctx context.Context, opts options) error {
	instance, err := newInstance()
	if err != nil {
		return err
	}
	logStart := fileSize(inv.dirs.logPath())
	link, err := inv.startSupervisor(opts, instance)
	if err != nil {
		return err
	}
	defer link.Close()
	verdict := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(link).ReadString('\n') // "" when the supervisor is gone without a word
		verdict <- strings.TrimSpace(line)
	}()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done(): // closing the link stops what was started
			return &exitError{codeFailed, "interrupted"}
		case word := <-verdict:
			if word == wordLocked {
				return &exitError{codeFailed, notSettled}
			}
			return inv.died(strings.TrimPrefix(word, wordDied), logStart)
		case <-poll.C:
			if !inv.answers(ctx, instance) {
				continue
			}
			_, _ = io.WriteString(link, wordReady+"\n") // a failure shows in the answer
			if word := <-verdict; word != wordWatching {
				return inv.died(strings.TrimPrefix(word, wordDied), logStart)
			}
			return inv.print(instance+"\n", nil)
		}
	}
}

// died says why the launch failed: in the daemon's own words from its log or, if it had none, in the supervisor's.
func (inv *invocation) died(cause string, logStart int64) error {
	if words := tail(inv.dirs.logPath(), logStart); words != "" {
		fmt.Fprint(inv.stderr, words)
	} else if cause = strings.TrimSpace(cause); cause != "" {
		fmt.Fprintln(inv.stderr, cause)
	}
	return &exitError{codeFailed, hasDied}
}

// answers tells whether the daemon of this launch is up.
func (inv *invocation) answers(ctx context.Context, instance string) bool {
	running, err := inv.client().Instance(ctx)
	if err != nil || running != instance {
		return false
	}
	_, err = inv.client().Status(ctx, "")
	return err == nil
}

// startSupervisor starts the supervisor in a session of its own, so that it outlives the terminal. The link it returns
// carries the words of supervisor.go; the supervisor sees it close when we die.
func (inv *invocation) startSupervisor(opts options, instance string) (*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("launch: %w", os.NewSyscallError("socketpair", err))
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link")
	defer theirs.Close()
	cmd := exec.Command(executable(), opts.arguments()...)
	cmd.Args[0] = filepath.Base(os.Args[0])
	cmd.Dir = "/"
	cmd.Env = inv.environment(opts, roleSupervisor, instance)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("launch: start the supervisor: %w", err)
	}
	return ours, cmd.Process.Release()
}

// environment makes that of the supervisor and of the daemon.
func (inv *invocation) environment(opts options, role, instance string) []string {
	return append(os.Environ(),
		envRole+"="+role,
		envInstance+"="+instance,
		"WEAVE_PASSWORD="+strings.Join(opts.node.Passwords, "\n"),
		"WEAVE_STATE_DIR="+inv.dirs.state,
		"WEAVE_RUN_DIR="+inv.dirs.run)
}

// executable is the path of this very program: its own, so that process lists show its name, unless another file has
// taken its place since.
func executable() string {
	const self = "/proc/self/exe"
	path, err := os.Executable()
	if err != nil {
		return self
	}
	named, errNamed := os.Stat(path)
	running, errRunning := os.Stat(self)
	if errNamed != nil || errRunning != nil || !os.SameFile(named, running) {
		return self
	}
	return path
}

// newInstance makes the id that scripts expect launch to print: 64 hex digits, as an engine's container ids are.
func newInstance() (string, error) {
	id := make([]byte, 32)
	if _, err := rand.Read(id); err != nil {
		return "", err
	}
	return hex.EncodeToString(id), nil
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// tail returns the last lines of a log that were written after offset start.
func tail(path string, start int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	size := fileSize(path)
	if start > size { // rotated meanwhile
		start = 0
	}
	text, err := io.ReadAll(io.NewSectionReader(f, max(start, size-logTail), logTail))
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	lines := strings.SplitAfter(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-logTailLines-1):], "")
}
