package shim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"weave/runtime"
)

const (
	// EnvPatience is how long to wait, as time.ParseDuration reads it.
	EnvPatience = "WEAVE_WAIT"
	// Marker stands beside the shim where the multicast route is waited for too.
	Marker = "multicast"

	patience = 2 * time.Minute
	// An interface comes some ten milliseconds after the container has started.
	pollFirst, pollLast = time.Millisecond, 50 * time.Millisecond

	// Exit codes are a shell's (POSIX, Shell Command Language, 2.8.2).
	codeFailed, codeNoExec, codeNotFound, codeSignal = 1, 126, 127, 128
)

// Main waits and then becomes args; it returns an exit code if it cannot.
func Main(args []string, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(stderr, "weave: there is no command to run")
		return codeFailed
	}
	// The first process of a container is deaf to signals that it does not ask for (pid_namespaces(7)).
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	if code := wait(ready, limit(stderr), signals, stderr); code != 0 {
		return code
	}
	signal.Stop(signals)
	return become(args, stderr)
}

// limit is how long to wait.
func limit(stderr io.Writer) time.Duration {
	text := os.Getenv(EnvPatience)
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

// wait polls until ready says yes, with ever longer pauses; it returns the exit code when it gives up.
func wait(ready func() bool, limit time.Duration, signals <-chan os.Signal, stderr io.Writer) int {
	end := time.NewTimer(limit)
	defer end.Stop()
	for pause := pollFirst; !ready(); pause = min(pause*5/4, pollLast) {
		select {
		case s := <-signals:
			if n, ok := s.(syscall.Signal); ok {
				return codeSignal + int(n)
			}
			return codeFailed
		case <-end.C:
			fmt.Fprintf(stderr, "weave: waited %v for weave to attach this container to its network. Is weave running on this host?\n"+
				"See 'weave status' and its log there; 'weave launch' starts it. %s=10m waits longer.\n", limit, EnvPatience)
			return codeFailed
		case <-time.After(pause):
		}
	}
	return 0
}

// ready tells that the interface is up and has an address, and its multicast route if the container is to have one.
func ready() bool {
	link, err := net.InterfaceByName(runtime.Inner)
	if err != nil || link.Flags&net.FlagUp == 0 {
		return false
	}
	addrs, err := link.Addrs()
	if err != nil {
		return false
	}
	usable := false
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			usable = true
		}
	}
	return usable && (!wantsMulticast() || hasMulticast())
}

// wantsMulticast looks for the marker beside the shim.
func wantsMulticast() bool {
	_, err := os.Stat(filepath.Join(runtime.ShimDir, Marker))
	return err == nil
}

// hasMulticast looks for the route 224.0.0.0/4 (proc(5), /proc/net/route: addresses in hex, in the machine's byte order).
// A container without /proc cannot tell.
func hasMulticast() bool {
	text, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return true
	}
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) > 7 && string(f[0]) == runtime.Inner && string(f[1]) == "000000E0" && string(f[7]) == "000000F0" {
			return true
		}
	}
	return false
}

// become executes a program found as a shell would.
func become(args []string, stderr io.Writer) int {
	path, err := exec.LookPath(args[0])
	if errors.Is(err, exec.ErrDot) {
		err = nil // PATH says so
	}
	if err == nil {
		err = syscall.Exec(path, args, os.Environ())
	}
	fmt.Fprintf(stderr, "weave: cannot run %s: %v\n", args[0], err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return codeNotFound
	}
	return codeNoExec
}
