package server

import (
	"bufio"
	"bytes"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	recheck         = time.Second // how often the file and the host's addresses are looked at, at most
	maxServers      = 8
	defaultFallback = 5 * time.Second
	maxResolvConf   = 64 << 10
)

// Upstreams are the other name servers. The exported fields are not changed
// once it is used.
type Upstreams struct {
	File  string           // such as /etc/resolv.conf; read again when it changes
	Fixed []netip.AddrPort // instead of the file's
	// Own is where we listen, which is never asked. 0.0.0.0 stands for every
	// IPv4 address that the host has at the time, [::] for every address.
	Own      []netip.AddrPort
	Fallback time.Duration // for one server to answer; 0 = 5 s

	hosts func() ([]netip.Addr, error) // the host's addresses; nil = as the kernel says

	mu      sync.Mutex
	checked time.Time
	stamp   stamp
	told    []netip.AddrPort // by the file
	local   []netip.Addr     // the host's addresses, if they matter
	list    []netip.AddrPort // never changed, only replaced
}

// stamp tells versions of a file apart.
type stamp struct {
	at   time.Time
	size int64
	info os.FileInfo
}

func (u *Upstreams) timeout() time.Duration {
	if u.Fallback > 0 {
		return u.Fallback
	}
	return defaultFallback
}

// Servers lists them in the order in which they are asked. It may be called on
// nil, and by anybody at any time. The list is not to be changed.
func (u *Upstreams) Servers() []netip.AddrPort {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := time.Now(); u.checked.IsZero() || now.Sub(u.checked) >= recheck {
		u.checked = now
		u.look()
	}
	return u.list
}

// look makes the list anew.
func (u *Upstreams) look() {
	all := u.Fixed
	if len(all) == 0 {
		u.reread()
		all = u.told
	}
	if slices.ContainsFunc(u.Own, func(o netip.AddrPort) bool { return o.Addr().IsUnspecified() }) {
		hosts := u.hosts
		if hosts == nil {
			hosts = hostAddrs
		}
		if now, err := hosts(); err == nil { // or else what was last known is as good as it gets
			u.local = now
		}
	}
	list := make([]netip.AddrPort, 0, len(all))
	for _, at := range all {
		if !u.ourselves(at) && len(list) < maxServers {
			list = append(list, at)
		}
	}
	u.list = list
}

// reread keeps the list while the file cannot be read.
func (u *Upstreams) reread() {
	info, err := os.Stat(u.File)
	if err != nil {
		return
	}
	s := stamp{at: info.ModTime(), size: info.Size(), info: info}
	if u.stamp.info != nil && s.at.Equal(u.stamp.at) && s.size == u.stamp.size && os.SameFile(s.info, u.stamp.info) {
		return
	}
	text, err := os.ReadFile(u.File)
	if err != nil || len(text) > maxResolvConf {
		return
	}
	u.stamp, u.told = s, ParseResolvConf(text)
}

// ourselves tells whether a query sent there would come back to us.
func (u *Upstreams) ourselves(at netip.AddrPort) bool {
	a := plain(at.Addr())
	for _, own := range u.Own {
		o := plain(own.Addr())
		switch {
		case own.Port() != at.Port():
		case o == a, a.IsUnspecified(): // a packet to no address goes to the host itself
			return true
		case o.IsUnspecified() && (o.Is6() || a.Is4()) && (a.IsLoopback() || slices.Contains(u.local, a)):
			return true
		}
	}
	return false
}

// plain is an address without a zone, and IPv4 if it is that in disguise.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// hostAddrs are the addresses of the host's interfaces.
func hostAddrs() ([]netip.Addr, error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, f := range found {
		if n, ok := f.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, plain(a))
			}
		}
	}
	return out, nil
}

// ParseResolvConf reads the name servers of a resolv.conf(5); what it does not
// understand it skips.
func ParseResolvConf(text []byte) []netip.AddrPort {
	var out []netip.AddrPort
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil && !slices.Contains(out, netip.AddrPortFrom(a, 53)) {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	return out
}
