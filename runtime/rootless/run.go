package rootless

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	childFD    = 3                // the child's end of the socket pair
	replyLimit = 1 << 20          // bytes
	patience   = 20 * time.Second // for the child
)

// Request is work for a child in a container's user and network namespaces.
type Request struct {
	PID  int      // a process in them
	Args []string // of the child, with the program's path as the first
	Body []byte   // what it reads
}

// Run has a child do a request and returns its reply, and the file that came with it or nil, which the caller closes. An
// error says what the child wrote to stderr.
func Run(ctx context.Context, r Request) (reply []byte, file *os.File, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "child"), os.NewFile(uintptr(pair[1]), "parent")
	defer ours.Close()
	flags, err := credentials(r.PID)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	args := append([]string{"-t", strconv.Itoa(r.PID), "-U", "-n"}, flags...)
	cmd := exec.CommandContext(ctx, "nsenter", append(append(args, "--"), r.Args...)...)
	var stderr bytes.Buffer
	cmd.Stderr, cmd.ExtraFiles = &stderr, []*os.File{theirs}
	err = cmd.Start()
	theirs.Close()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, nil, fmt.Errorf("%w: install util-linux, which has nsenter", err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("enter the container: %w", err)
	}
	if err = unix.Send(pair[0], r.Body, unix.MSG_NOSIGNAL); err == nil {
		reply, file, err = receive(pair[0])
	}
	if waited := cmd.Wait(); waited != nil || err != nil {
		if file != nil {
			file.Close()
		}
		return nil, nil, failed(ctx, stderr.String(), waited, err)
	}
	return reply, file, nil
}

// failed says why a child gave no good reply.
func failed(ctx context.Context, said string, errs ...error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if said = strings.TrimSpace(said); said != "" {
		return errors.New(said)
	}
	return fmt.Errorf("enter the container: %w", errors.Join(errs...))
}

// credentials are the flags by which a child has rights in the namespaces of a process: where we are root there, our own
// credentials will do, and setting groups is often forbidden (user_namespaces(7)); else it has to become root there, or
// it would lose its rights when it is executed.
func credentials(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid))
	if err != nil {
		return nil, fmt.Errorf("look at the container's users: %w", err)
	}
	if f := strings.Fields(string(text)); len(f) >= 3 && f[0] == "0" && f[1] == strconv.Itoa(os.Getuid()) {
		return []string{"--preserve-credentials"}, nil
	}
	return []string{"-S", "0", "-G", "0"}, nil
}

// receive takes one message and the descriptor that came with it.
func receive(fd int) ([]byte, *os.File, error) {
	body, oob := make([]byte, replyLimit), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := unix.Recvmsg(fd, body, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("receive: %w", err)
	}
	if n == 0 {
		return nil, nil, io.ErrUnexpectedEOF
	}
	var file *os.File
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, nil, fmt.Errorf("receive a descriptor: %w", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if file == nil {
				file = os.NewFile(uintptr(fd), "received")
			} else {
				unix.Close(fd)
			}
		}
	}
	return body[:n], file, nil
}

// Lender lends its descriptor to f, and keeps it open meanwhile.
type Lender interface {
	Control(f func(fd uintptr)) error
}

// Serve is the child's side: it hands the request's body to do, and sends what that returns, with the lender's descriptor unless
// that is nil. The lender stays the caller's.
func Serve(do func(body []byte) (reply []byte, file Lender, err error)) error {
	body := make([]byte, replyLimit)
	n, err := unix.Read(childFD, body)
	if err != nil {
		return fmt.Errorf("read the request: %w (this is what weave runs by itself)", err)
	}
	reply, file, err := do(body[:n])
	if err != nil {
		return err
	}
	if file == nil {
		return answer(reply, nil)
	}
	var sent error
	if err := file.Control(func(fd uintptr) { sent = answer(reply, unix.UnixRights(int(fd))) }); err != nil {
		return fmt.Errorf("send the descriptor: %w", err)
	}
	return sent
}

// answer sends the child's reply.
func answer(reply, rights []byte) error {
	if err := unix.Sendmsg(childFD, reply, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("send the reply: %w", err)
	}
	return nil
}
