package shim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"weave/runtime"
)

const (
	// EnvPatience names the variable that says how long to wait, as time.ParseDuration reads it; 0 is for ever.
	EnvPatience = "WEAVE_WAIT"
	// EnvExec names the variable by which the proxy marks what is executed in a running container. The program does not
	// see it.
	EnvExec = "WEAVE_EXEC"

	patience    = 2 * time.Minute
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" // Docker's, where a container has none

	// Exit codes are a shell's (POSIX, Shell Command Language, 2.8.2), and those of docker run.
	codeFailed, codeNoExec, codeNotFound, codeSignal = 1, 126, 127, 128
)

// Main waits and then becomes the command that follows its own path in args. It returns an exit code if it cannot.
func Main(args, environ []string, stderr io.Writer) int {
	if len(args) < 2 {
		fmt.Fprintln(stderr, "weave: there is no command to run")
		return codeFailed
	}
	// The first process of a container is deaf to signals that it does not ask for (pid_namespaces(7)).
	dieOf(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	self := args[0]
	w := want{link: runtime.Inner, limit: limit(environ, stderr)}
	if routes, err := os.ReadFile(filepath.Join(filepath.Dir(self), RoutesFile)); err == nil {
		w.routes = keysOf(string(routes))
	}
	if slices.ContainsFunc(environ, isExecMark) {
		w.needless = func() bool { return !mainWaits("/proc", self, os.Getpid()) }
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(self), noWaitFile)); err != nil && !w.wait() {
		fmt.Fprintf(stderr, "weave: waited %v for weave to attach this container to its network. Is weave running on this host?\n"+
			"See 'weave status' and its log there; 'weave launch' starts it. %s=10m waits longer.\n", w.limit, EnvPatience)
		return codeFailed
	}
	code, err := become(args[1:], slices.DeleteFunc(slices.Clone(environ), isExecMark))
	fmt.Fprintf(stderr, "weave: cannot run %s: %v\n", args[1], err)
	return code
}

func isExecMark(v string) bool { return strings.HasPrefix(v, EnvExec+"=") }

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

// limit is how long to wait; 0 = for ever.
func limit(environ []string, stderr io.Writer) time.Duration {
	text := lookup(environ, EnvPatience)
	if text == "" {
		return patience
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		fmt.Fprintf(stderr, "weave: %s=%q is no duration such as 30s; waiting for %v\n", EnvPatience, text, patience)
		return patience
	}
	return d
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
		return judged(syscall.Exec(args[0], args, environ))
	}
	path := lookup(environ, "PATH")
	if path == "" {
		path = defaultPath
	}
	var denied error
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + args[0]
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			continue
		}
		if err := syscall.Exec(file, args, environ); !errors.Is(err, fs.ErrPermission) {
			return judged(err)
		}
		denied = fs.ErrPermission
	}
	if denied != nil {
		return judged(denied)
	}
	return codeNotFound, errors.New("executable file not found in $PATH")
}

func judged(err error) (int, error) {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return codeNotFound, err
	}
	return codeNoExec, err
}
