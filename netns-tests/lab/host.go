package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// commandLimit ends a weave command that hangs.
const commandLimit = 45 * time.Second

// Host is a namespace on the underlay with directories for one weave daemon.
type Host struct {
	*NS
	Index    int
	IP, IP6  string // on the underlay, without prefix length
	StateDir string
	RunDir   string
	Env      []string // added for every weave command on this host
	Bin      string   // the weave binary of this host; "": what Binary says
	lab      *Lab
	next     int // number of the next container
	users    []*User
}

func newHost(l *Lab, index int) (*Host, error) {
	n, err := NewNS(fmt.Sprintf("%s-h%d", l.ID, index), fmt.Sprintf("host%d", index))
	if err != nil {
		return nil, err
	}
	h := &Host{
		NS: n, Index: index, lab: l,
		IP: fmt.Sprintf("10.99.0.%d", index), IP6: fmt.Sprintf("fd99::%d", index),
		StateDir: filepath.Join(l.Dir, fmt.Sprintf("s%d", index)),
		RunDir:   filepath.Join(l.Dir, fmt.Sprintf("r%d", index)),
	}
	for _, d := range []string{h.StateDir, h.RunDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// port is the name of this host's port on the underlay bridge.
func (h *Host) port() string { return fmt.Sprintf("h%d", h.Index) }

func (h *Host) address() error {
	if h.lab.cfg.Plain {
		if err := PlainNIC(h.NS, "eth0"); err != nil {
			return err
		}
	}
	return errors.Join(h.AddAddr("eth0", h.IP+"/24"), h.AddAddr("eth0", h.IP6+"/64"))
}

// dirs is the environment that keeps this host's daemon apart from others.
func (h *Host) dirs() []string {
	return []string{"WEAVE_STATE_DIR=" + h.StateDir, "WEAVE_RUN_DIR=" + h.RunDir}
}

// Weave runs the weave binary on this host.
func (h *Host) Weave(args ...string) Result { return h.WeaveEnv(nil, args...) }

// WeaveEnv is Weave with more in the environment.
func (h *Host) WeaveEnv(env []string, args ...string) Result {
	bin, err := h.binary()
	if err != nil {
		return Result{Args: append([]string{"weave"}, args...), RC: -1, Err: err}
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	all := append(append(h.dirs(), h.Env...), env...)
	return h.Run(ctx, all, "", bin, args...)
}

func (h *Host) binary() (string, error) {
	if h.Bin != "" {
		return h.Bin, nil
	}
	return Binary()
}

// Log is what the daemon has written so far, an earlier file that was moved
// aside included.
func (h *Host) Log() string {
	files, _ := filepath.Glob(filepath.Join(h.StateDir, "weave.log*"))
	var all []byte
	for i := len(files) - 1; i >= 0; i-- { // weave.log.1 before weave.log
		b, _ := os.ReadFile(files[i])
		all = append(all, b...)
	}
	return string(all)
}

// Complaints are the lines of the log that no run of a daemon may write.
func (h *Host) Complaints() []string {
	var out []string
	for line := range strings.Lines(h.Log()) {
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
			if strings.Contains(line, bad) {
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	return out
}

// DaemonPID finds the process that serves peers: the one of this host that
// listens on the control port. It looks more than once: /proc is no snapshot,
// and what changes while it is read may be missing.
func (h *Host) DaemonPID() (pid int, err error) {
	err = Eventually(time.Second, func() error {
		for _, pid = range h.PIDs() {
			if Listening(pid, 6783) {
				return nil
			}
		}
		pid = 0
		return fmt.Errorf("host%d: nothing of ours listens on port 6783 (processes %v)", h.Index, h.PIDs())
	})
	return pid, err
}

// PIDs are the processes of this host's weave: daemon, supervisor, commands.
func (h *Host) PIDs() []int {
	bin, err := h.binary()
	if err != nil {
		return nil
	}
	return pidsWithEnv(bin, "WEAVE_RUN_DIR="+h.RunDir)
}

// KillAll kills every weave process of the host, as a power failure would.
func (h *Host) KillAll() error {
	return Eventually(5*time.Second, func() error {
		pids := h.PIDs()
		for _, u := range h.users {
			pids = append(pids, u.Daemons()...)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if len(pids) > 0 {
			return fmt.Errorf("host%d: processes %v will not die", h.Index, pids)
		}
		return nil
	})
}

// Container is a namespace without any interface but lo, kept alive by a
// process, as a container engine would leave it with --network none.
type Container struct {
	*NS
	Host *Host
	PID  int
	proc *exec.Cmd
}

// NewContainer makes a container on the host.
func (h *Host) NewContainer() (*Container, error) {
	h.next++
	name := fmt.Sprintf("%s-h%dc%d", h.lab.ID, h.Index, h.next)
	n, err := NewNS(name, name)
	if err != nil {
		return nil, err
	}
	c := &Container{NS: n, Host: h, proc: exec.Command("sleep", "infinity")}
	if err := n.Start(c.proc); err != nil {
		return nil, err
	}
	c.PID = c.proc.Process.Pid
	h.lab.conts = append(h.lab.conts, c)
	return c, nil
}

// Close ends the container; a second time it does nothing.
func (c *Container) Close() error {
	if c.proc.ProcessState != nil {
		return nil
	}
	_ = c.proc.Process.Kill()
	_ = c.proc.Wait()
	return c.NS.Close()
}

// Policy runs `weave policy set` with a policy.
func (h *Host) Policy(text string) Result {
	bin, err := h.binary()
	if err != nil {
		return Result{RC: -1, Err: err}
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	return h.Run(ctx, append(h.dirs(), h.Env...), text, bin, "policy", "set", "-")
}
