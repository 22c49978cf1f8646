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
type User struct {
	Host *Host
	UID  int
	Home string // has the state and run directories
	bin  string
	port int
}

// ErrNoUsers is returned where the lab cannot act as somebody else.
var ErrNoUsers = errors.New("the lab has no other users: it has to be root of the machine")

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
	if err := os.Chown(u.Home, u.UID, u.UID); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoUsers, err)
	}
	if err := u.install(); err != nil {
		return nil, err
	}
	h.users = append(h.users, u)
	return u, nil
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
func (u *User) Run(args ...string) Result {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	return u.Host.RunAs(ctx, u.UID, u.Env(), "", args[0], args[1:]...)
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

// NewBox makes one.
func (u *User) NewBox() (*Box, error) {
	b := &Box{User: u, proc: exec.Command("unshare", "-Urn", "sleep", "infinity")}
	b.proc.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.UID)}}
	b.proc.Env = append(withoutStage(os.Environ()), u.Env()...)
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
	return b.User.Run(append([]string{"nsenter", "-t", strconv.Itoa(b.PID), "-U", "--preserve-credentials", "-n", "--"}, args...)...)
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
func (u *User) Policy(text string) Result {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	return u.Host.RunAs(ctx, u.UID, u.Env(), text, u.bin, "policy", "set", "-")
}
