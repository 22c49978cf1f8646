package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
)

// Defaults and bounds of Config; the defaults are Weave Net's.
const (
	DefaultPort      = 6783
	DefaultMTU       = 1376 // bytes
	DefaultConnLimit = 200
	MinMTU           = 576   // what every IPv4 host must take (RFC 791)
	MaxMTU           = 65521 // what a TAP takes: 65,535 less the Ethernet header (drivers/net/tun.c)
	MaxQueues        = 64
)

// What may encrypt the kernel path: IPsec where both ends have it, else WireGuard; or one of them.
const (
	EncryptAuto      = "auto"
	EncryptIPsec     = "ipsec"
	EncryptWireGuard = "wireguard"
)

// CheckEncryption says what is wrong with a FastEncryption.
func CheckEncryption(kind string) error {
	all := []string{EncryptAuto, EncryptIPsec, EncryptWireGuard}
	if !slices.Contains(all, kind) {
		return fmt.Errorf("invalid --fastdp-encryption %q, should be %s", kind, strings.Join(all, ", "))
	}
	return nil
}

// Paths are a daemon's directories.
type Paths struct {
	State string // survives: key, name, attachments
	Run   string // sockets
}

// Listeners are the addresses of the read-only listeners, host:port or the
// absolute path of a unix socket; empty: none.
type Listeners struct {
	HTTP   string
	Status string
}

// Config says how one daemon runs. It is read once, at the start of Run.
type Config struct {
	Name      string   // peer name, six bytes as a MAC address; empty: derived from the key
	Nickname  string   // shown beside the name; empty: the host's name
	Passwords []string // accepted, the first is dialled with; none: encrypted, but anybody may join

	Port           int            // TCP control and UDP data
	TrustedSubnets []netip.Prefix // data goes in clear to peers there that trust us as well
	Advertise      []string       // addresses told to others before the host's own, ip or ip:port
	Host           netip.Addr     // local address to bind; invalid: all
	Peers          []string       // targets, host[:port]
	Resume         bool           // use the persisted targets
	NoDiscovery    bool           // connect only to targets
	ConnLimit      int            // connections made and accepted; 0: no limit
	MTU            int            // of the containers' interfaces, bytes; 0: DefaultMTU
	AutoMTU        bool           // the largest that all paths carry, see mtuKeeper
	NoFast         bool           // no kernel path: frames go through user space only
	FastEncryption string         // what may encrypt it, see EncryptAuto
	Tap            string         // what carries frames, see tun.ParseBackend; empty: the best there is
	Queues         int            // of the TAP, and as many UDP sockets; 0: by the number of processors

	Addresses  AddressConfig
	Names      NameConfig
	Engines    EngineConfig
	Proxy      ProxyConfig
	AllowSpoof bool // engines' containers may use MACs and addresses of others
	Rootless   bool // without the rights of root: see userHost
	Egress     bool // containers may go out by way of this process; only if Rootless
	Paths      Paths
	Listeners  Listeners

	Log      *slog.Logger
	Instance string // 64 hex digits naming this start of the daemon
}

// withDefaults fills what was left out and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if c.Port < 1 || c.Port > 65535 {
		return c, fmt.Errorf("port %d is out of range 1..65535", c.Port)
	}
	if c.AutoMTU && c.Rootless {
		return c, errors.New("--mtu auto needs root: without it interfaces that are there cannot be changed")
	}
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	if c.MTU < MinMTU || c.MTU > MaxMTU {
		return c, fmt.Errorf("mtu %d is out of range %d..%d", c.MTU, MinMTU, MaxMTU)
	}
	if c.FastEncryption == "" {
		c.FastEncryption = EncryptAuto
	}
	if err := CheckEncryption(c.FastEncryption); err != nil {
		return c, err
	}
	if c.Queues == 0 {
		c.Queues = max(1, min(4, goruntime.NumCPU()/2))
	}
	if c.Queues < 1 || c.Queues > MaxQueues {
		return c, fmt.Errorf("%d queues are out of range 1..%d", c.Queues, MaxQueues)
	}
	if c.ConnLimit < 0 {
		return c, fmt.Errorf("connection limit %d is negative; use 0 for no limit", c.ConnLimit)
	}
	if c.Resume && len(c.Peers) > 0 {
		return c, errors.New("an initial peer list and resumption exclude each other")
	}
	if c.Egress && !c.Rootless {
		return c, errors.New("--egress is for hosts without root: here 'weave expose' and the kernel lead containers out")
	}
	if c.Nickname == "" {
		c.Nickname, _ = os.Hostname()
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Paths.State == "" || c.Paths.Run == "" {
		return c, fmt.Errorf("state and run directories are not set")
	}
	return c, nil
}

// password reports whether the network has one.
func (c Config) password() bool { return len(c.Passwords) > 0 }

// bindAddr is the address that TCP listeners and UDP sockets of one family bind
// to; false where --host is of the other family.
func (c Config) bindAddr(v6 bool) (netip.AddrPort, bool) {
	all := netip.IPv4Unspecified()
	if v6 {
		all = netip.IPv6Unspecified()
	}
	if !c.Host.IsValid() {
		return netip.AddrPortFrom(all, uint16(c.Port)), true
	}
	return netip.AddrPortFrom(c.Host.Unmap(), uint16(c.Port)), c.Host.Unmap().Is6() == v6
}

// tunnels is where the network namespace of the kernel's WireGuard is kept.
func (p Paths) tunnels() string { return filepath.Join(p.Run, "wireguard.netns") }

// store is the path of the state file.
func (p Paths) store() string { return filepath.Join(p.State, "weave.db") }
