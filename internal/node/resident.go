package node

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// mapping is a part of the address space, as /proc/self/smaps shows it
// (proc_pid_smaps(5)).
type mapping struct {
	from, to  uintptr
	writable  bool
	file      string
	anonymous int // KiB of its pages that are no longer the file's
}

// unmapProgram takes those pages of the program's file out of the address space
// that can be had again from the page cache, as only a start needs most of them:
// initialisation of packages runs through the whole file, and the kernel maps
// sixteen pages where one is touched. What is needed comes back by itself.
// Nothing is lost if it fails.
func unmapProgram() {
	for _, m := range programParts() {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

// programParts are the mappings of the program that are the file's alone: pages that were relocated, as of a PIE, are not in
// the file. They stay as they are once the program runs, and reading them makes garbage.
var programParts = sync.OnceValue(func() []mapping {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(mappings(), func(m mapping) bool { return m.file != program || m.writable || m.anonymous > 0 })
})

// mappings lists those of this process; none if they cannot be read.
func mappings() []mapping {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	var all []mapping
	for lines := bufio.NewScanner(f); lines.Scan(); {
		all = addMapping(all, lines.Text())
	}
	return all
}

// addMapping reads one line: the head of a mapping, or something about the last one.
func addMapping(all []mapping, line string) []mapping {
	fields := strings.Fields(line)
	if len(fields) >= 5 && strings.Contains(fields[0], "-") {
		from, to, _ := strings.Cut(fields[0], "-")
		m := mapping{writable: strings.Contains(fields[1], "w")}
		m.from, m.to = address(from), address(to)
		if len(fields) > 5 {
			m.file = strings.Join(fields[5:], " ")
		}
		return append(all, m)
	}
	if n := len(all); n > 0 && len(fields) > 1 && fields[0] == "Anonymous:" {
		all[n-1].anonymous, _ = strconv.Atoi(fields[1])
	}
	return all
}

func address(hex string) uintptr {
	a, _ := strconv.ParseUint(hex, 16, strconv.IntSize)
	return uintptr(a)
}
