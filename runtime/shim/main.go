package shim

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// Name is what the binary is called to be the shim.
	Name = "w"
	// EnvLimit names the variable that says how long to wait, as Go writes durations ("30s"); "0" waits for ever.
	EnvLimit = "WEAVE_WAIT_LIMIT"
	// EnvExec names the variable that marks what is executed in a running container. The program does not see it.
	EnvExec = "WEAVE_EXEC"

	defaultLimit = 2 * time.Minute
	defaultPath  = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" // as Docker's, for containers without one

	// Exit codes are those of shells, and of docker run.
	codeFailed       = 1
	codeNotRunnable  = 126
	codeNotFound     = 127
	codeSignal       = 128 // and the signal
	markNoWait       = "nowait"
	markNoMulticast  = "nomcast"
	routeGrace       = 2 * time.Second // for the multicast route, once there is an address: a program can live without
	unreachableHints = "is weave running on this host? See `weave status` there."
)

// Main is the program: it waits and becomes the command that follows its own name in args. It returns an exit code only
// if it cannot.
func Main(args, environ []string, stderr io.Writer) int {
	fail := func(code int, format string, a ...any) int {
		fmt.Fprintf(stderr, "weave: "+format+"\n", a...)
		return code
	}
	if len(args) < 2 {
		return fail(codeNotFound, "no command given: this is the program that waits for a container's network, and then runs one")
	}
	// As process 1 we would outlive signals that nobody asked for.
	dieOf(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	limit, err := limitOf(environ)
	if err != nil {
		return fail(codeFailed, "%v", err)
	}
	w := wish{link: "ethwe", limit: limit, multicast: !marked(args[0], markNoMulticast)}
	executed := slices.ContainsFunc(environ, isExecMark)
	if executed {
		w.needless = func() bool { return !mainWaits("/proc", args[0], os.Getpid()) }
	}
	if !marked(args[0], markNoWait) && !w.wait() {
		return fail(codeFailed, "no interface %s with an address after %v: this container was not attached to its network; %s",
			w.link, limit, unreachableHints)
	}
	environ = slices.DeleteFunc(slices.Clone(environ), isExecMark)
	code, err := become(args[1:], environ)
	return fail(code, "%v", err)
}

func isExecMark(v string) bool { return strings.HasPrefix(v, EnvExec+"=") }

func marked(self, mark string) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(self), mark))
	return err == nil
}

// dieOf has these signals end us until exec, which gives them back to the program.
func dieOf(signals ...os.Signal) {
	got := make(chan os.Signal, 1)
	signal.Notify(got, signals...)
	go func() {
		if s, ok := (<-got).(syscall.Signal); ok {
			os.Exit(codeSignal + int(s))
		}
	}()
}

// limitOf is how long to wait; 0 = for ever.
func limitOf(environ []string) (time.Duration, error) {
	text := lookup(environ, EnvLimit)
	if text == "" {
		return defaultLimit, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("invalid %s=%q, should be a duration such as 30s, or 0 to wait for ever", EnvLimit, text)
	}
	return d, nil
}

func lookup(environ []string, name string) string {
	for _, v := range slices.Backward(environ) {
		if key, value, _ := strings.Cut(v, "="); key == name {
			return value
		}
	}
	return ""
}

// become executes a command, found as a shell finds it. It returns only errors, with what a shell would exit with.
func become(args, environ []string) (int, error) {
	if strings.Contains(args[0], "/") {
		return runFailed(args[0], syscall.Exec(args[0], args, environ))
	}
	path := lookup(environ, "PATH")
	if path == "" {
		path = defaultPath
	}
	denied := ""
	for dir := range strings.SplitSeq(path, ":") {
		file := filepath.Join(dir, args[0]) // an empty dir is the current one
		info, err := os.Stat(file)
		if err != nil || info.IsDir() {
			continue
		}
		if err := syscall.Exec(file, args, environ); err != syscall.EACCES {
			return runFailed(file, err)
		}
		denied = file
	}
	if denied != "" {
		return runFailed(denied, syscall.EACCES)
	}
	return codeNotFound, fmt.Errorf("exec: %q: executable file not found in $PATH", args[0])
}

func runFailed(file string, err error) (int, error) {
	code := codeNotRunnable
	if err == syscall.ENOENT || err == syscall.ENOTDIR {
		code = codeNotFound
	}
	return code, fmt.Errorf("exec: %q: %w", file, err)
}
