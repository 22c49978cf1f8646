package netlink

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The old iptables (iptables-legacy) keeps tables of its own, which nf_tables does not show. Changing them means writing a
// whole table anew in a race with everybody else, so that we only look whether their chain FORWARD drops by policy.
//
// From include/uapi/linux/netfilter_ipv4/ip_tables.h, ip6_tables.h and netfilter/x_tables.h, in the machine's byte order:
//
//	getinfo      name [32] | valid hooks 4 | hook entries 5×4 | underflows 5×4 | number of entries 4 | size 4
//	get_entries  name [32] | size 4 | padding 4 | entries
//	entry        addresses and the like (84 bytes, IPv6: 136) | 4 | offset of the target 2 | …
//	target       size, name, revision: 32 bytes | verdict 4, which is -1 for drop
const (
	soGetInfo, soGetEntries = 64, 65
	nameSize                = 32
	infoSize                = nameSize + 4 + 5*4 + 5*4 + 4 + 4
	hookForward             = 2 // NF_INET_FORWARD
	underflowForward        = nameSize + 4 + 5*4 + hookForward*4
	tableSize               = infoSize - 4
	entriesHead             = nameSize + 8
	targetHead              = 32
	maxLegacyTable          = 64 << 20
)

// legacy is the old iptables of one family.
type legacy struct {
	command      string
	names        string // what has tables is listed there; asking for one that is not would make it
	family       int
	level        int
	targetOffset int // in an entry
}

var legacies = []legacy{
	{"iptables-legacy", "/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.IPPROTO_IP, 88},
	{"ip6tables-legacy", "/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.IPPROTO_IPV6, 140},
}

// legacyWarnings tells of old tables in our way, and what to do.
func (h *Host) legacyWarnings() []string {
	var out []string
	for _, l := range legacies {
		drops := false
		err := h.space.run(func() (err error) {
			drops, err = l.drops()
			return err
		})
		if err != nil {
			h.log.Debug("cannot look at the old iptables", "command", l.command, "err", err)
		}
		if drops {
			out = append(out, fmt.Sprintf("the chain FORWARD of %s drops what passes the host, and weave changes only nftables: "+
				"%[1]s -I FORWARD -i %[2]s -j ACCEPT; %[1]s -I FORWARD -o %[2]s -j ACCEPT", l.command, h.cfg.Bridge))
		}
	}
	return out
}

// drops tells whether what passes the host is dropped by the policy of the chain FORWARD.
func (l legacy) drops() (bool, error) {
	names, err := os.ReadFile(l.names)
	if err != nil || !slices.Contains(strings.Fields(string(names)), "filter") {
		return false, nil // a kernel without, or nobody uses it
	}
	fd, err := unix.Socket(l.family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return false, fmt.Errorf("raw socket: %w", err)
	}
	defer unix.Close(fd)
	info := make([]byte, infoSize)
	copy(info, "filter")
	if err := getsockopt(fd, l.level, soGetInfo, info); err != nil {
		return false, err
	}
	size := binary.NativeEndian.Uint32(info[tableSize:])
	if size > maxLegacyTable {
		return false, fmt.Errorf("a table of %d bytes", size)
	}
	entries := make([]byte, entriesHead+int(size))
	copy(entries, "filter")
	binary.NativeEndian.PutUint32(entries[nameSize:], size)
	if err := getsockopt(fd, l.level, soGetEntries, entries); err != nil {
		return false, err
	}
	return l.policyDrops(entries[entriesHead:], binary.NativeEndian.Uint32(info[underflowForward:])), nil
}

// policyDrops reads the entry at the end of a chain.
func (l legacy) policyDrops(entries []byte, at uint32) bool {
	if uint64(at)+uint64(l.targetOffset)+2 > uint64(len(entries)) {
		return false
	}
	entry := entries[at:]
	target := int(binary.NativeEndian.Uint16(entry[l.targetOffset:]))
	if target+targetHead+4 > len(entry) {
		return false
	}
	standard := bytes.Trim(entry[target+2:target+targetHead-1], "\x00") // the standard target has no name
	return len(standard) == 0 && int32(binary.NativeEndian.Uint32(entry[target+targetHead:])) == -1
}

func getsockopt(fd, level, name int, value []byte) error {
	size := uint32(len(value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&size)), 0)
	goruntime.KeepAlive(value)
	if errno != 0 {
		return fmt.Errorf("getsockopt %d: %w", name, errno)
	}
	return nil
}
