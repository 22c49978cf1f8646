package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where iproute2, and weave, look for namespaces by name.
const netnsDir = "/run/netns"

// NS is a named network namespace together with a host name of its own.
type NS struct {
	Name string
	net  *os.File
	uts  *os.File
}

// NewNS makes a namespace that `ip netns` and `weave attach` can find by name,
// brings lo up in it, and gives it the host name `hostname`.
func NewNS(name, hostname string) (*NS, error) {
	n := &NS{Name: name}
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return fmt.Errorf("set hostname: %w", err)
		}
		f, err := os.Create(n.Path())
		if err != nil {
			return err
		}
		_ = f.Close()
		if err := unix.Mount("/proc/thread-self/ns/net", n.Path(), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("name namespace: %w", err)
		}
		if n.net, err = os.Open(n.Path()); err != nil {
			return err
		}
		n.uts, err = os.Open("/proc/thread-self/ns/uts")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("new namespace %s: %w", name, err)
	}
	return n, n.Up("lo")
}

// Path is the file that stands for the namespace.
func (n *NS) Path() string { return filepath.Join(netnsDir, n.Name) }

// Close forgets the name. The namespace itself lives on while processes or
// sockets use it.
func (n *NS) Close() error {
	_ = n.net.Close()
	_ = n.uts.Close()
	return errors.Join(unix.Unmount(n.Path(), unix.MNT_DETACH), os.Remove(n.Path()))
}

// onOwnThread runs f on a thread that ends with it, so that f may change the
// thread's namespaces freely.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		goruntime.LockOSThread() // never unlocked: the thread dies with the goroutine
		done <- f()
	}()
	return <-done
}

// Do runs f with the calling thread inside the namespace: sockets it opens
// belong there for ever. f must not start goroutines that expect the same.
func (n *NS) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(int(n.net.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter %s: %w", n.Name, err)
		}
		return f()
	})
}

// Start starts cmd inside the namespace.
func (n *NS) Start(cmd *exec.Cmd) error {
	return onOwnThread(func() error {
		for _, f := range []*os.File{n.net, n.uts} {
			if err := unix.Setns(int(f.Fd()), 0); err != nil {
				return fmt.Errorf("enter %s: %w", n.Name, err)
			}
		}
		return cmd.Start()
	})
}

// Result is what a command left behind.
type Result struct {
	Args           []string
	Stdout, Stderr string
	RC             int
	// Held: the command ended, but something it started kept its standard
	// output or error open, so that $(command) in a shell would hang.
	Held bool
	// Err: the command could not be run or ran into the time limit.
	Err  error
	Took time.Duration
}

// String shows a result the way a reader would have typed it.
func (r Result) String() string {
	return fmt.Sprintf("$ %s\nrc=%d err=%v held=%v took=%v\nstdout: %q\nstderr: %q",
		strings.Join(r.Args, " "), r.RC, r.Err, r.Held, r.Took.Round(time.Millisecond), r.Stdout, r.Stderr)
}

// outputGrace is how long after its end a command's output may stay open.
const outputGrace = time.Second

// Run runs a command inside the namespace to its end, with env added to the
// environment and stdin as its input.
func (n *NS) Run(ctx context.Context, env []string, stdin, name string, args ...string) Result {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(withoutStage(os.Environ()), env...)
	return finish(ctx, cmd, func() error { return n.Start(cmd) }, stdin, append([]string{filepath.Base(name)}, args...))
}

// finish starts a command and waits for its end. args are what the result shows.
func finish(ctx context.Context, cmd *exec.Cmd, start func() error, stdin string, args []string) Result {
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.WaitDelay = outputGrace
	r := Result{Args: args}
	began := time.Now()
	err := start()
	if err == nil {
		err = cmd.Wait()
	}
	r.Stdout, r.Stderr, r.Took = out.String(), errs.String(), time.Since(began)
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		r.Held = true
	case ctx.Err() != nil:
		r.RC, r.Err = -1, ctx.Err()
	case errors.As(err, &exit):
		r.RC = exit.ExitCode()
	case err != nil:
		r.RC, r.Err = -1, err
	}
	return r
}

// Links returns a netlink handle that acts inside the namespace. The caller
// closes it.
func (n *NS) Links() (*netlink.Handle, error) {
	return netlink.NewHandleAt(netns.NsHandle(n.net.Fd()))
}

// WithLink hands f the handle of the namespace and one of its links.
func (n *NS) WithLink(dev string, f func(*netlink.Handle, netlink.Link) error) error {
	h, err := n.Links()
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(dev)
	if err != nil {
		return fmt.Errorf("%s in %s: %w", dev, n.Name, err)
	}
	return f(h, l)
}

// Up sets a link up.
func (n *NS) Up(dev string) error {
	return n.WithLink(dev, func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetUp(l) })
}

// AddAddr gives dev an address "IP/LEN"; IPv6 ones are usable at once.
func (n *NS) AddAddr(dev, cidr string) error {
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	return n.WithLink(dev, func(h *netlink.Handle, l netlink.Link) error { return h.AddrAdd(l, a) })
}

// DelAddr removes an address from an interface.
func (n *NS) DelAddr(dev, cidr string) error {
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	return n.WithLink(dev, func(h *netlink.Handle, l netlink.Link) error { return h.AddrDel(l, a) })
}

// Sysctl writes a value below /proc/sys in the namespace.
func (n *NS) Sysctl(key, value string) error {
	return n.Do(func() error {
		return os.WriteFile("/proc/sys/"+key, []byte(value), 0o644)
	})
}
