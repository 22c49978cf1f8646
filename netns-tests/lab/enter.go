package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The program runs up to three times. Each run hands the next its stage by the
// environment:
//
//	outer ── clone(mount, net, pid, uts [, user]) ──► init ── fork ──► run
//	  waits, gives back the exit code      mounts, reaps     the caller's own code
const (
	stageVar       = "WEAVE_LAB_STAGE"
	stageInit      = "init"
	stageRun       = "run"
	unavailableVar = "WEAVE_LAB_UNAVAILABLE"
)

// exitNoProc is the exit code by which the init stage says that a fresh /proc
// was refused (as inside many containers), so no PID namespace can be used.
const exitNoProc = 97

// Main calls run inside namespaces of its own and returns its exit code. It
// belongs at the top of main or TestMain, before anything else is started.
// Where namespaces cannot be had, run is called all the same and Available
// tells why.
func Main(run func() int) int {
	switch os.Getenv(stageVar) {
	case stageRun:
		return run()
	case stageInit:
		return initStage()
	}
	cleanup, err := ensureBinary()
	defer cleanup()
	if err != nil {
		_ = os.Setenv(binaryErrVar, err.Error())
	}
	code, err := enter()
	if err == nil {
		return code
	}
	_ = os.Setenv(unavailableVar, err.Error())
	return run()
}

// Available is nil inside the lab's namespaces and otherwise says why they
// could not be had, and what to do about it.
func Available() error {
	if os.Getenv(stageVar) == stageRun {
		return nil
	}
	if why := os.Getenv(unavailableVar); why != "" {
		return errors.New(why)
	}
	return errors.New("not inside the lab: the program must be started by lab.Main")
}

// enter tries the ways into private namespaces, the least demanding last.
func enter() (int, error) {
	const flags = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS
	ways := []uintptr{flags | unix.CLONE_NEWUSER | unix.CLONE_NEWPID, flags | unix.CLONE_NEWUSER}
	if os.Geteuid() == 0 {
		ways = append([]uintptr{flags | unix.CLONE_NEWPID, flags}, ways...)
	}
	var err error
	for _, way := range ways {
		var code int
		if code, err = spawn(way); err == nil && code != exitNoProc {
			return code, nil
		}
	}
	return 0, fmt.Errorf("no private namespaces here (%w); as a user: sysctl -w user.max_user_namespaces=10000 "+
		"and, where it exists, kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0", err)
}

// spawn runs the init stage in new namespaces and waits for it.
func spawn(flags uintptr) (int, error) {
	// the death signal is tied to the thread that forks
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageVar+"="+stageInit)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if flags&unix.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// initStage prepares the mounts, then runs the last stage and reaps whatever
// daemons leave behind until that ends.
func initStage() int {
	if err := mounts(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return exitNoProc
	}
	if os.Getpid() != 1 {
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	pid, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{
		Env:   append(withoutStage(os.Environ()), stageVar+"="+stageRun),
		Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab: start:", err)
		return 1
	}
	code := reapUntil(pid)
	if os.Getpid() != 1 {
		killChildren()
	}
	return code
}

// mounts gives us a /proc that shows our processes and an empty /run, both
// invisible to the rest of the machine.
func mounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if os.Getpid() == 1 {
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			return fmt.Errorf("mount /proc: %w", err)
		}
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return os.MkdirAll(netnsDir, 0o755)
}

// reapUntil collects every child that ends and returns the exit code of pid.
func reapUntil(pid int) int {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1
		case got == pid && status.Exited():
			return status.ExitStatus()
		case got == pid && status.Signaled():
			return 128 + int(status.Signal())
		}
	}
}

// killChildren ends what daemons left to a subreaper; in a PID namespace the
// kernel does the same.
func killChildren() {
	for {
		for _, pid := range childrenOf(os.Getpid()) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func withoutStage(env []string) []string {
	var out []string
	for _, e := range env {
		if !strings.HasPrefix(e, stageVar+"=") {
			out = append(out, e)
		}
	}
	return out
}
