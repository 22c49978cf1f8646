package shim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pollAlways is how often we look although nothing was told; pollBlind how often where nothing can be told.
	pollAlways = 250 * time.Millisecond
	pollBlind  = 5 * time.Millisecond
)

// routeGrace is for what is to follow an address: a program can live without.
const routeGrace = 2 * time.Second

// want is what is waited for.
type want struct {
	link     string
	routes   []string      // through it, as keysOf writes them
	limit    time.Duration // 0 = none
	needless func() bool   // tells that there is nothing more to wait for; nil = never
}

// wait returns true when everything is there, false after the limit.
func (w want) wait() bool {
	if done, _ := w.look(); done {
		return true
	}
	news := subscribe()
	defer news.close()
	start := time.Now()
	var addressed time.Time // when the address was seen
	for {
		done, address := w.look()
		switch {
		case done, w.needless != nil && w.needless():
			return true
		case address && addressed.IsZero():
			addressed = time.Now()
		case address && time.Since(addressed) > routeGrace:
			return true
		case w.limit > 0 && time.Since(start) > w.limit:
			return false
		}
		news.await()
	}
}

// look tells whether everything is there, and whether at least the address is.
func (w want) look() (done, address bool) {
	if !hasAddress(w.link) {
		return false, false
	}
	return len(w.routes) == 0 || hasRoutes("/proc/net/route", w.link, w.routes), true
}

func hasAddress(link string) bool {
	i, err := net.InterfaceByName(link)
	if err != nil || i.Flags&net.FlagUp == 0 {
		return false
	}
	addrs, err := i.Addrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() { // every interface has an fe80:: one
			return true
		}
	}
	return false
}

// keysOf reads a list of IPv4 prefixes, one a line, and writes each as the kernel's table has it: network and mask in
// hexadecimal, in the byte order of the machine (net/ipv4/fib_trie.c, fib_route_seq_show).
func keysOf(list string) []string {
	var keys []string
	for line := range strings.FieldsSeq(list) {
		p, err := netip.ParsePrefix(line)
		if err != nil || !p.Addr().Is4() {
			continue
		}
		network := p.Masked().Addr().As4()
		keys = append(keys, fmt.Sprintf("%08X/%08X",
			binary.NativeEndian.Uint32(network[:]), binary.NativeEndian.Uint32(net.CIDRMask(p.Bits(), 32))))
	}
	return keys
}

// hasRoutes reads the kernel's table. Where there is none to read, nothing is waited for.
func hasRoutes(table, link string, keys []string) bool {
	text, err := os.ReadFile(table)
	if err != nil {
		return true
	}
	have := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 7 && f[0] == link {
			have[f[1]+"/"+f[7]] = true
		}
	}
	for _, k := range keys {
		if !have[k] {
			return false
		}
	}
	return true
}

// mainWaits tells whether the container's own process still is the shim: process 1, or the child of an init (--init). What
// an engine executes in a container has no parent there. self is the path of the shim, pid our own.
func mainWaits(proc, self string, pid int) bool {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return true
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil || n == pid {
			continue
		}
		line, err := os.ReadFile(filepath.Join(proc, e.Name(), "cmdline"))
		if err != nil || !bytes.HasPrefix(line, append([]byte(self), 0)) {
			continue
		}
		if n == 1 || parent(filepath.Join(proc, e.Name(), "stat")) != 0 {
			return true
		}
	}
	return false
}

// parent reads the fourth field of a stat file (proc_pid_stat(5)); the second may hold anything but ends in a parenthesis.
func parent(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
	return n
}

// news is a socket on which the kernel tells of links, addresses and routes (rtnetlink(7)); -1 where it does not.
type news int

const groups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1)

func subscribe() news {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return -1
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return -1
	}
	return news(fd)
}

func (n news) close() {
	if n >= 0 {
		_ = unix.Close(int(n))
	}
}

// await returns when there may be something new to see.
func (n news) await() {
	if n < 0 {
		time.Sleep(pollBlind)
		return
	}
	polled := []unix.PollFd{{Fd: int32(n), Events: unix.POLLIN}}
	if _, err := unix.Poll(polled, int(pollAlways.Milliseconds())); err != nil && err != unix.EINTR {
		time.Sleep(pollBlind)
		return
	}
	var message [8192]byte
	for {
		if _, _, err := unix.Recvfrom(int(n), message[:], 0); err != nil {
			return // nothing more, or news were lost: we look in any case
		}
	}
}
