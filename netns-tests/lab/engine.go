package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	engineStart  = 30 * time.Second // for an engine to answer
	commandLong  = 2 * time.Minute
	dockerSocket = "/run/docker.sock"
	podmanSocket = "/run/podman/podman.sock"
)

// Machine is a host with processes, mounts and a name of its own, as a computer has: engines run in it at their usual
// paths. Its disk outlives a crash.
type Machine struct {
	Host   *Host
	disk   string
	init   *exec.Cmd
	pid    int // of its first process, as we see it
	docker *exec.Cmd
	podman *exec.Cmd
	flags  []string // of dockerd
}

// ErrNoEngines is returned where the lab cannot run container engines.
var ErrNoEngines = errors.New("container engines need root of the machine")

// bootScript makes the mounts of a machine; $1 is its disk, $2 its name. The first process reaps orphans: a shell that
// waits for one child takes all that end.
const bootScript = `
set -e
mount -t proc proc /proc
mount --rbind /sys/fs/cgroup /mnt 2>/dev/null && bound=1
mount -t sysfs sysfs /sys
[ -z "$bound" ] || mount --move /mnt /sys/fs/cgroup
for d in etc/docker etc/containers var/lib/weave etc/cni; do
  mkdir -p "/$d" "$1/$d"
  mount --bind "$1/$d" "/$d"
done
for f in passwd group subuid subgid; do
  [ -e "/etc/$f" ] || : >"/etc/$f"
  mount --bind "$1/accounts/$f" "/etc/$f"
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/docker/plugins /run/netns /run/lock /run/podman
hostname "$2"
echo 1 >/proc/sys/net/ipv4/ip_forward
echo nameserver 127.0.0.1 >/run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf
echo up >"$1/up"
while sleep 1000000; do :; done`

// NewMachine makes a machine of a host; nothing runs on it yet. disk is a directory that is not on a tmpfs.
func (h *Host) NewMachine(disk string) (*Machine, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNoEngines
	}
	if err := openTUN(); err != nil {
		return nil, err
	}
	m := &Machine{Host: h, disk: disk}
	if err := m.configure(); err != nil {
		return nil, err
	}
	h.lab.machines = append(h.lab.machines, m)
	return m, m.Boot()
}

// configure writes what Podman needs where it cannot raise limits, which it tries as root, and where there is no systemd.
func (m *Machine) configure() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	var tasks unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &tasks); err != nil {
		return err
	}
	n := min(tasks.Max, 32768) // Podman lowers its own limit to kernel.pid_max, which is no less
	files := map[string]string{
		"containers.conf": fmt.Sprintf("[containers]\ndefault_ulimits = [\"nofile=%d:%d\", \"nproc=%d:%d\"]\n"+
			"[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n[network]\nnetwork_backend = \"netavark\"\n",
			limit.Max, limit.Max, n, n),
		"storage.conf": fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = \"/run/containers\"\n", m.disk+"/podman"),
		"policy.json":  `{"default":[{"type":"insecureAcceptAnything"}]}`,
	}
	if err := m.accounts(); err != nil {
		return err
	}
	dir := filepath.Join(m.disk, "etc/containers")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Boot starts the machine, also after a Crash.
func (m *Machine) Boot() error {
	up := filepath.Join(m.disk, "up")
	_ = os.Remove(up)
	log, err := os.Create(filepath.Join(m.disk, "boot.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	m.init = exec.Command("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private",
		"sh", "-c", bootScript, "sh", m.disk, fmt.Sprintf("host%d", m.Host.Index))
	m.init.Stdout, m.init.Stderr, m.init.Env = log, log, withoutStage(os.Environ())
	if err := m.Host.Start(m.init); err != nil {
		return err
	}
	err = Eventually(engineStart, func() error {
		_, err := os.Stat(up)
		return err
	})
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("boot host%d: %w\n%s", m.Host.Index, err, text)
	}
	kids := childrenOf(m.init.Process.Pid)
	if len(kids) != 1 {
		return fmt.Errorf("boot host%d: it has the first processes %v", m.Host.Index, kids)
	}
	m.pid = kids[0]
	return nil
}

// Crash ends everything on the machine at once, as a power failure would. The disk stays.
func (m *Machine) Crash() error {
	if m.init == nil {
		return nil
	}
	_ = m.init.Process.Kill() // which kills its child, the first process
	_ = unix.Kill(m.pid, unix.SIGKILL)
	_ = m.init.Wait()
	for _, c := range []*exec.Cmd{m.docker, m.podman} {
		if c != nil {
			_ = c.Wait()
		}
	}
	m.init, m.docker, m.podman = nil, nil, nil
	return nil
}

// command makes a command that runs on the machine.
func (m *Machine) command(ctx context.Context, args ...string) *exec.Cmd {
	at := []string{"-t", strconv.Itoa(m.pid), "-m", "-u", "-n", "-p", "-r", "-w", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(at, args...)...)
	cmd.Env = append(withoutStage(os.Environ()), "HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	return cmd
}

// Run runs a command on the machine to its end.
func (m *Machine) Run(args ...string) Result { return m.RunEnv(nil, "", args...) }

// RunEnv is Run with more in the environment, and input.
func (m *Machine) RunEnv(env []string, stdin string, args ...string) Result {
	ctx, cancel := context.WithTimeout(context.Background(), commandLong)
	defer cancel()
	cmd := m.command(ctx, args...)
	cmd.Env = append(cmd.Env, env...)
	return finish(ctx, cmd, cmd.Start, stdin, args)
}

// Weave runs the weave binary on the machine, at its usual paths.
func (m *Machine) Weave(args ...string) Result {
	bin, err := m.Host.binary()
	if err != nil {
		return Result{Args: args, RC: -1, Err: err}
	}
	return m.Run(append([]string{bin}, args...)...)
}

// Policy runs `weave policy set` with a policy.
func (m *Machine) Policy(text string) Result {
	bin, err := m.Host.binary()
	if err != nil {
		return Result{RC: -1, Err: err}
	}
	return m.RunEnv(nil, text, bin, "policy", "set", "-")
}

// Docker and Podman run the engines' clients.
func (m *Machine) Docker(args ...string) Result { return m.Run(append([]string{"docker"}, args...)...) }

// Podman runs podman.
func (m *Machine) Podman(args ...string) Result { return m.Run(append([]string{"podman"}, args...)...) }

// Proxied runs docker's client against weave's proxy.
func (m *Machine) Proxied(args ...string) Result {
	return m.Docker(append([]string{"-H", "unix:///run/weave/weave.sock"}, args...)...)
}

// Log is what the weave daemon has written.
func (m *Machine) Log() string {
	text, _ := os.ReadFile(filepath.Join(m.disk, "var/lib/weave/weave.log"))
	return string(text)
}

// StartDocker starts dockerd and waits until it answers. Without flags it has no bridge and touches no firewall.
func (m *Machine) StartDocker(flags ...string) error {
	if len(flags) == 0 {
		flags = []string{"--bridge=none", "--iptables=false", "--ip6tables=false"}
	}
	m.flags = flags
	args := append([]string{
		"dockerd", "--data-root", m.disk + "/docker", "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid",
		"-H", "unix://" + dockerSocket, "--cgroup-parent", "/" + m.cgroup(),
	}, flags...)
	var err error
	m.docker, err = m.background("dockerd.log", args...)
	if err != nil {
		return err
	}
	return m.answers("dockerd.log", dockerSocket)
}

func (m *Machine) cgroup() string { return fmt.Sprintf("%s-m%d", m.Host.lab.ID, m.Host.Index) }

// StartPodman starts Podman's service and waits until it answers.
func (m *Machine) StartPodman() error {
	var err error
	if m.podman, err = m.background("podman.log", "podman", "system", "service", "-t", "0", "unix://"+podmanSocket); err != nil {
		return err
	}
	return m.answers("podman.log", podmanSocket)
}

// background starts a command on the machine that writes to a file on its disk.
func (m *Machine) background(log string, args ...string) (*exec.Cmd, error) {
	f, err := os.Create(filepath.Join(m.disk, log))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := m.command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = f, f
	return cmd, cmd.Start()
}

// answers waits until somebody answers pings at a socket of the machine.
func (m *Machine) answers(log, socket string) error {
	path := fmt.Sprintf("/proc/%d/root%s", m.pid, socket)
	err := Eventually(engineStart, func() error { return pingEngine(path) })
	if err != nil {
		text, _ := os.ReadFile(filepath.Join(m.disk, log))
		return fmt.Errorf("%w\n%s", err, text[max(0, len(text)-4000):])
	}
	return nil
}

// KillDocker ends dockerd without warning; its containers live on only if it was started with --live-restore.
func (m *Machine) KillDocker() error { return m.end(&m.docker, syscall.SIGKILL, "/run/docker.pid") }

// StopDocker ends dockerd in order.
func (m *Machine) StopDocker() error { return m.end(&m.docker, syscall.SIGTERM, "/run/docker.pid") }

// KillPodman ends Podman's service; its containers live on.
func (m *Machine) KillPodman() error { return m.end(&m.podman, syscall.SIGKILL, "") }

// StopPodman ends Podman's service in order; its containers live on.
func (m *Machine) StopPodman() error { return m.end(&m.podman, syscall.SIGTERM, "") }

// DockerSocket and PodmanSocket are paths of the engines' sockets for us, who are not on the machine.
func (m *Machine) DockerSocket() string { return fmt.Sprintf("/proc/%d/root%s", m.pid, dockerSocket) }

// PodmanSocket is the path of Podman's socket for us.
func (m *Machine) PodmanSocket() string { return fmt.Sprintf("/proc/%d/root%s", m.pid, podmanSocket) }

// ProxySocket is the path of weave's proxy's socket, as we see it.
func (m *Machine) ProxySocket() string {
	return fmt.Sprintf("/proc/%d/root/run/weave/weave.sock", m.pid)
}

// PauseDocker stops dockerd in its tracks, or lets it go on.
func (m *Machine) PauseDocker(on bool) error { return pause(m.docker, on) }

// PausePodman stops Podman's service in its tracks, or lets it go on.
func (m *Machine) PausePodman(on bool) error { return pause(m.podman, on) }

// pause works on what background started. nsenter, which waits for the engine, stops itself when it sees the engine
// stopped, and then nobody would wake it: so it is stopped first and woken last. A stopping process runs on until one of
// its threads has taken the signal.
func pause(c *exec.Cmd, on bool) error {
	if c == nil {
		return errors.New("pause: the engine does not run")
	}
	engine := childrenOf(c.Process.Pid)
	if !on {
		return signalAll(syscall.SIGCONT, append(engine, c.Process.Pid))
	}
	for _, pid := range append([]int{c.Process.Pid}, engine...) {
		if err := unix.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		if err := Eventually(engineStart, func() error { return stopped(pid) }); err != nil {
			return err
		}
	}
	return nil
}

// stopped is nil once no thread of a process runs.
func stopped(pid int) error {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(tasks) == 0 {
		return fmt.Errorf("process %d has ended", pid)
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		if rest := stat[bytes.LastIndexByte(stat, ')')+1:]; !bytes.HasPrefix(rest, []byte(" T")) {
			return fmt.Errorf("%s: %s", task, rest)
		}
	}
	return nil
}

func signalAll(s syscall.Signal, pids []int) error {
	var errs []error
	for _, pid := range pids {
		errs = append(errs, unix.Kill(pid, s))
	}
	return errors.Join(errs...)
}

// end ends what background started: nsenter, and the process that it became or waits for.
func (m *Machine) end(cmd **exec.Cmd, signal syscall.Signal, pidfile string) error {
	c := *cmd
	if c == nil {
		return nil
	}
	*cmd = nil
	_ = signalAll(signal, childrenOf(c.Process.Pid)) // which may have ended by itself
	err := c.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = nil
	}
	if pidfile != "" {
		_ = os.Remove(fmt.Sprintf("/proc/%d/root%s", m.pid, pidfile)) // which a killed one leaves
	}
	return err
}

// close ends the machine and what it leaves outside of it.
func (m *Machine) close() error {
	err := m.Crash()
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + m.cgroup())
	more, _ := filepath.Glob("/sys/fs/cgroup/" + m.cgroup())
	for _, d := range append(dirs, more...) {
		subs, _ := filepath.Glob(d + "/*/")
		for _, s := range subs {
			_ = os.Remove(s)
		}
		_ = os.Remove(d)
	}
	return err
}
