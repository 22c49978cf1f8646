package runtime

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Kind is how a Target was named.
type Kind uint8

const (
	// ByPath: a path to a namespace file, such as /proc/42/ns/net.
	ByPath Kind = iota + 1
	// ByName: a bare name, as `ip netns` makes them.
	ByName
	// ByPID: a process in the namespace.
	ByPID
)

// Identity tells network namespaces apart: the device and inode of the namespace file (namespaces(7)). The kernel gives an
// inode to a new namespace only after the old one is gone. The zero value is no namespace.
type Identity struct {
	Dev, Inode uint64
}

// IsZero reports whether id names no namespace.
func (id Identity) IsZero() bool { return id == Identity{} }

// String is the identity as the kernel writes it.
func (id Identity) String() string { return fmt.Sprintf("net:[%d]", id.Inode) }

// Target is a network namespace.
type Target struct {
	Kind Kind
	Text string   // as the operator wrote it
	Path string   // a file that can be opened to enter it
	ID   Identity // zero until resolved
}

// String is the target as the operator wrote it.
func (t Target) String() string { return t.Text }

// ErrTarget reports a target that cannot name a namespace.
var ErrTarget = errors.New("bad target")

// ParseTarget tells what kind of target text is and where its file is. It does not look whether it exists.
func ParseTarget(text string) (Target, error) {
	switch {
	case text == "":
		return Target{}, fmt.Errorf("%w: empty; give a path to a network namespace, a name under /run/netns, or a pid", ErrTarget)
	case strings.ContainsRune(text, 0):
		return Target{}, fmt.Errorf("%w: %q holds a zero byte", ErrTarget, text)
	case strings.Contains(text, "/"):
		return Target{Kind: ByPath, Text: text, Path: text}, nil
	case text == "." || text == "..":
		return Target{}, fmt.Errorf("%w: %q is a directory", ErrTarget, text)
	}
	if strings.Trim(text, "0123456789") == "" {
		pid, err := strconv.ParseInt(text, 10, 32)
		if err != nil || pid == 0 {
			return Target{}, fmt.Errorf("%w: %s is no process id", ErrTarget, text)
		}
		return Target{Kind: ByPID, Text: text, Path: fmt.Sprintf("/proc/%d/ns/net", pid)}, nil
	}
	return Target{Kind: ByName, Text: text, Path: "/run/netns/" + text}, nil
}

const (
	// Inner is the interface's name in a container.
	Inner = "ethwe"
	// HostPrefix starts the names of all host-side interfaces of ours.
	HostPrefix = "vethwe"
)

// HostVeth is the name of the host-side end of a namespace's veth: "vethwepl" and the inode in base 36, seven digits, which
// is one to one as long as inodes are 32 bits, as the kernel's are; 15 bytes, as long as an interface's name can be.
func HostVeth(id Identity) string {
	const span = 36 * 36 * 36 * 36 * 36 * 36 * 36
	digits := strconv.FormatUint(id.Inode%span, 36)
	return HostPrefix + "pl" + strings.Repeat("0", 7-len(digits)) + digits
}
