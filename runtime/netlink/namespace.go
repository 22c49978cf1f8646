package netlink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	goruntime "runtime"
	"strings"
	"time"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// socketTimeout bounds every answer of the kernel.
const socketTimeout = 10 * time.Second

// space is an open network namespace and a netlink socket in it.
type space struct {
	file *os.File
	id   runtime.Identity
	*vnl.Handle
	packets int // the socket of send; 0 until it is used first
	mtu     int // the network's, for clamp.go; 0: none
}

// openSpace opens the namespace file at path.
func openSpace(path string) (*space, error) {
	file, err := openNamespace(path)
	if err != nil {
		return nil, err
	}
	s := &space{file: file}
	if s.id, err = identify(file); err == nil {
		err = s.run(func() (err error) {
			s.Handle, err = vnl.NewHandle(unix.NETLINK_ROUTE)
			return err
		})
	}
	if err == nil {
		err = s.SetSocketTimeout(socketTimeout)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *space) close() {
	if s.Handle != nil {
		s.Handle.Close()
	}
	if s.packets != 0 {
		unix.Close(s.packets)
	}
	s.file.Close()
}

// run calls fn on a thread that is in the namespace.
func (s *space) run(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		goruntime.LockOSThread()
		err, back := s.visit(fn)
		if back {
			goruntime.UnlockOSThread()
		}
		done <- err // a thread still locked dies with this goroutine
	}()
	return <-done
}

// visit reports fn's error and whether the thread is where it was before.
func (s *space) visit(fn func() error) (err error, back bool) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open own network namespace: %w", err), true
	}
	defer own.Close()
	if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", s.file.Name(), err), true
	}
	err = fn()
	return err, unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil
}

// sysctl writes one of the namespace's sysctls; key is its path below /proc/sys.
func (s *space) sysctl(key, value string) error {
	return s.run(func() error {
		f, err := os.OpenFile("/proc/sys/"+key, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString(value)
		return err
	})
}

// readSysctl reads one of the namespace's sysctls.
func (s *space) readSysctl(key string) (string, error) {
	var value []byte
	err := s.run(func() (err error) {
		value, err = os.ReadFile("/proc/sys/" + key)
		return err
	})
	return strings.TrimSpace(string(value)), err
}

// send sends one Ethernet frame out of an interface of the namespace. One goroutine may do so at a time. The socket is kept: to
// close one takes the kernel some 10 ms (packet_release waits for an RCU grace period).
func (s *space) send(index int, frame []byte) error {
	if s.packets == 0 {
		err := s.run(func() (err error) {
			s.packets, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			return err
		})
		if err != nil {
			s.packets = 0
			return fmt.Errorf("packet socket: %w", err)
		}
	}
	if err := unix.Sendto(s.packets, frame, 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// openNamespace opens path if it is a network namespace. Without O_NONBLOCK a path to a pipe would hang.
func openNamespace(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	kind, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		file.Close()
		return nil, fmt.Errorf("%s is not a network namespace", path)
	}
	return file, nil
}

func identify(file *os.File) (runtime.Identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return runtime.Identity{}, fmt.Errorf("identify %s: %w", file.Name(), err)
	}
	return runtime.Identity{Dev: uint64(st.Dev), Inode: st.Ino}, nil
}

// Resolve finds the namespace that text names: a path, a name under /run/netns, or a pid. One that does not exist is
// ErrNoTarget. It needs no rights but those to look at the namespace.
func Resolve(text string) (runtime.Target, error) {
	t, err := runtime.ParseTarget(text)
	if err != nil {
		return t, err
	}
	file, err := openNamespace(t.Path)
	if t.Kind == runtime.ByName && errors.Is(err, fs.ErrNotExist) {
		if other, otherErr := openNamespace("/var" + t.Path); otherErr == nil {
			file, err, t.Path = other, nil, "/var"+t.Path
		}
	}
	if err != nil {
		return t, explain(t, err)
	}
	defer file.Close()
	t.ID, err = identify(file)
	return t, err
}

// explain says what an operator can do about a target that cannot be opened.
func explain(t runtime.Target, err error) error {
	missing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
	switch {
	case missing && t.Kind == runtime.ByPID:
		return fmt.Errorf("%w: process %s does not exist", ErrNoTarget, t.Text)
	case missing && t.Kind == runtime.ByName:
		return fmt.Errorf("%w: no network namespace %q in /run/netns (see: ip netns list); a path or a pid will do as well",
			ErrNoTarget, t.Text)
	case missing:
		return fmt.Errorf("%w: %s does not exist", ErrNoTarget, t.Path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open the network namespace of %s: %w (the daemon needs the rights of the namespace's owner)", t.Text, err)
	case strings.Contains(err.Error(), "not a network namespace"):
		return fmt.Errorf("%w: %w; give a file such as /proc/PID/ns/net or /run/netns/NAME", ErrNoTarget, err)
	}
	return fmt.Errorf("open the network namespace of %s: %w", t.Text, err)
}
