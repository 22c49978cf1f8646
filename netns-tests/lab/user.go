package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// FirstUID is the user that NewUser makes up first on every host. No account is needed.
const FirstUID = 54321

// User is an ordinary user of a host, with directories for a weave daemon of their own.
//
// Where the lab is root of the machine, each is another one. Where an ordinary user runs it, all are that one: in a user
// namespace of their own, so that what they run has no rights in the lab's.
type User struct {
	Host *Host
	UID  int
	Home string // has the state and run directories
	bin  string
	port int
	self *exec.Cmd // holds the user namespace; nil where they are truly somebody else
}

// ErrNoUsers is returned where the lab has none.
var ErrNoUsers = errors.New("the lab has no users")

// Ordinary reports whether the lab was started by an ordinary user, so that it is root in its own namespaces only.
func Ordinary() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(text))
	return err == nil && len(f) >= 3 && f[2] == "1"
}

// NewUser makes up an ordinary user on the host. Users may open /dev/net/tun in the lab, as on most machines, whatever
// the machine says.
func (h *Host) NewUser() (*User, error) {
	if err := openTUN(); err != nil {
		return nil, err
	}
	if err := os.Chmod(h.lab.Dir, 0o711); err != nil {
		return nil, err
	}
	n := len(h.users)
	u := &User{
		Host: h, UID: FirstUID + n, port: 6793 + 10*n, Home: filepath.Join(h.lab.Dir, fmt.Sprintf("h%du%d", h.Index, n+1)),
	}
	if err := os.Mkdir(u.Home, 0o700); err != nil {
		return nil, err
	}
	if err := u.become(); err != nil {
		return nil, err
	}
	if err := u.install(); err != nil {
		return nil, err
	}
	h.users = append(h.users, u)
	return u, nil
}

// become makes the user somebody.
func (u *User) become() error {
	if !Ordinary() {
		return os.Chown(u.Home, u.UID, u.UID)
	}
	u.self = exec.Command("sleep", "infinity")
	u.self.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: u.UID, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: u.UID, Size: 1}},
	}
	if err := u.self.Start(); err != nil {
		return fmt.Errorf("a user namespace: %w", err)
	}
	return nil
}

// Command is a command of the user's, to be started in the host's namespaces (NS.Start).
func (u *User) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	if u.self != nil {
		in := []string{"-t", strconv.Itoa(u.self.Process.Pid), "-U", "--preserve-credentials", "--"}
		cmd = exec.CommandContext(ctx, "nsenter", append(in, args...)...)
	} else {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.UID)}}
	}
	cmd.Dir = "/"
	cmd.Env = append(withoutStage(os.Environ()), u.Env()...)
	return cmd
}

// close ends what the user is.
func (u *User) close() {
	if u.self != nil {
		_ = u.self.Process.Kill()
		_ = u.self.Wait()
	}
}

// install gives the user a copy of the binary: the machine's may lie where only root can look.
func (u *User) install() error {
	bin, err := u.Host.binary()
	if err != nil {
		return err
	}
	u.bin = filepath.Join(u.Home, "weave")
	return copyFile(u.bin, bin)
}

// openTUN puts a device that everybody may open in place of the machine's, in the lab's mounts only.
func openTUN() error {
	const device = "/dev/net/tun"
	info, err := os.Stat(device)
	if err == nil && info.Mode().Perm() == 0o666 {
		return nil
	}
	if err := unix.Mount("tmpfs", "/dev/net", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount over /dev/net: %w", err)
	}
	if err := unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
		return fmt.Errorf("%w (make %s: %w)", ErrNoUsers, device, err)
	}
	return os.Chmod(device, 0o666) // whatever the umask is
}

// CloseTUN lets nobody but root open TAP devices in the lab until reopen is called.
func CloseTUN() (reopen func() error, err error) {
	if err := unix.Mount("tmpfs", "/dev/net", "tmpfs", 0, "mode=755"); err != nil {
		return nil, fmt.Errorf("mount over /dev/net: %w", err)
	}
	reopen = func() error { return unix.Unmount("/dev/net", unix.MNT_DETACH) }
	if err := unix.Mknod("/dev/net/tun", unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))); err != nil {
		return nil, errors.Join(ErrNoUsers, err, reopen())
	}
	return reopen, nil
}

// StateDir and RunDir are the daemon's.
func (u *User) StateDir() string { return filepath.Join(u.Home, "state") }

// RunDir is the daemon's.
func (u *User) RunDir() string { return filepath.Join(u.Home, "run") }

// Env is the environment of the user's commands.
func (u *User) Env() []string {
	return []string{
		"HOME=" + u.Home, "XDG_RUNTIME_DIR=" + u.Home, "WEAVE_STATE_DIR=" + u.StateDir(), "WEAVE_RUN_DIR=" + u.RunDir(),
	}
}

// Run runs a command as the user, on the host.
func (u *User) Run(args ...string) Result { return u.runWith("", args...) }

func (u *User) runWith(stdin string, args ...string) Result {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	cmd := u.Command(ctx, args...)
	return finish(ctx, cmd, func() error { return u.Host.Start(cmd) }, stdin, append([]string{filepath.Base(args[0])}, args[1:]...))
}

// Weave runs the weave binary as the user.
func (u *User) Weave(args ...string) Result {
	return u.Run(append([]string{u.bin}, args...)...)
}

// Bin is the user's weave binary.
func (u *User) Bin() string { return u.bin }

// Launch launches the user's daemon at a port of their own.
func (u *User) Launch(args ...string) Result {
	return u.Weave(append([]string{"launch", "--port", strconv.Itoa(u.port), "--http-addr", "", "--status-addr", ""}, args...)...)
}

// Address is where others reach the user's daemon.
func (u *User) Address() string { return fmt.Sprintf("%s:%d", u.Host.IP, u.port) }

// Log is what the user's daemon has written.
func (u *User) Log() string {
	text, _ := os.ReadFile(filepath.Join(u.StateDir(), "weave.log"))
	return string(text)
}

// Daemons are the processes of the user's weave.
func (u *User) Daemons() []int {
	return pidsWithEnv(u.bin, "WEAVE_RUN_DIR="+u.RunDir())
}

// Box is a container without an engine: a process in a user and network namespace of a user's, as unshare -Urn makes it.
type Box struct {
	*NS
	User *User
	PID  int
	proc *exec.Cmd
}

// within are the words before a command that is to run in a box, as its root.
func (b *Box) within() []string {
	return []string{"nsenter", "-t", strconv.Itoa(b.PID), "-U", "--preserve-credentials", "-n", "--"}
}

// NewBox makes one.
func (u *User) NewBox() (*Box, error) { return u.newBox(nil) }

// Nest makes a box in a box, as a container's own containers are.
func (b *Box) Nest() (*Box, error) { return b.User.newBox(b.within()) }

func (u *User) newBox(within []string) (*Box, error) {
	b := &Box{User: u, proc: u.Command(context.Background(), append(within, "unshare", "-Urn", "sleep", "infinity")...)}
	if err := u.Host.Start(b.proc); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	b.PID = b.proc.Process.Pid
	u.Host.lab.boxes = append(u.Host.lab.boxes, b)
	err := Eventually(commandLimit, func() error {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", b.PID))
		if strings.TrimSpace(string(name)) != "sleep" {
			return fmt.Errorf("process %d is not in its namespaces yet", b.PID)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.NS, err = openNS(b.PID)
	return b, err
}

// openNS opens the namespaces of a process.
func openNS(pid int) (*NS, error) {
	n := &NS{Name: strconv.Itoa(pid)}
	var err error
	if n.net, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil {
		return nil, err
	}
	n.uts, err = os.Open(fmt.Sprintf("/proc/%d/ns/uts", pid))
	return n, err
}

// RunInside runs a command in the box, as its root.
func (b *Box) RunInside(args ...string) Result {
	return b.User.Run(append(b.within(), args...)...)
}

// Close ends the box; a second time it does nothing.
func (b *Box) Close() error {
	if b.proc.ProcessState != nil {
		return nil
	}
	_ = b.proc.Process.Kill()
	_ = b.proc.Wait()
	if b.NS == nil {
		return nil
	}
	return errors.Join(b.net.Close(), b.uts.Close())
}

// Policy runs `weave policy set` with a policy, as the user.
func (u *User) Policy(text string) Result { return u.runWith(text, u.bin, "policy", "set", "-") }
