package shim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"weave/runtime"
)

const (
	// EnvPatience is how long to wait, as time.ParseDuration reads it.
	EnvPatience = "WEAVE_WAIT"
	// RoutesFile stands beside the shim and lists, one a line, the IPv4 prefixes that have to have a route through the
	// interface too.
	RoutesFile = "routes"

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
	return usable && routed(filepath.Join(runtime.ShimDir, RoutesFile), "/proc/net/route")
}

// routed tells that every prefix of the file wanted has a route in the table (proc(5), /proc/net/route: the second and
// eighth column are network and mask in hex, in the machine's byte order). Where either cannot be read, nothing is waited
// for.
func routed(wanted, table string) bool {
	list, err := os.ReadFile(wanted)
	if err != nil {
		return true
	}
	text, err := os.ReadFile(table)
	if err != nil {
		return true
	}
	have := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 7 && f[0] == runtime.Inner {
			have[f[1]+"/"+f[7]] = true
		}
	}
	for _, line := range strings.Fields(string(list)) {
		p, err := netip.ParsePrefix(line)
		if err != nil || !p.Addr().Is4() {
			continue
		}
		network := p.Masked().Addr().As4()
		mask := net.CIDRMask(p.Bits(), 32)
		if !have[fmt.Sprintf("%08X/%08X", binary.NativeEndian.Uint32(network[:]), binary.NativeEndian.Uint32(mask))] {
			return false
		}
	}
	return true
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
