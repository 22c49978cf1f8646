package server

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	recheck         = time.Second // how often the file is looked at, at most
	maxServers      = 8
	defaultFallback = 5 * time.Second
	maxResolvConf   = 64 << 10
)

// Upstreams are the other name servers.
type Upstreams struct {
	File     string           // such as /etc/resolv.conf; read again when it changes
	Fixed    []netip.AddrPort // instead of the file's
	Excluded []netip.AddrPort // never asked: ourselves
	Fallback time.Duration    // for an answer; 0 = 5 s

	mu      sync.Mutex
	checked time.Time
	stamp   stamp
	list    []netip.AddrPort
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
// nil, and by anybody at any time.
func (u *Upstreams) Servers() []netip.AddrPort {
	if u == nil {
		return nil
	}
	if len(u.Fixed) > 0 {
		return u.without(u.Fixed)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := time.Now(); now.Sub(u.checked) >= recheck {
		u.checked = now
		u.reread()
	}
	return u.list
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
	u.stamp, u.list = s, u.without(ParseResolvConf(text))
}

func (u *Upstreams) without(list []netip.AddrPort) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(list))
	for _, at := range list {
		if !slices.Contains(u.Excluded, at) && len(out) < maxServers {
			out = append(out, at)
		}
	}
	return out
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
