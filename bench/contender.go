package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"weave/netns-tests/lab"

	"github.com/vishvananda/netlink"
)

// entry is a contender that can be had.
type entry struct {
	name, title string
	needs       []string // programs
	hint        string   // how to have them
	peer        bool     // encrypts in user space, as weave does
	asked       bool     // measured only if it is named: a default run is to take about an hour
	join        func(*contender) error
	joinAlone   func(*contender) error // both containers on one host; nil: not measured
	joinUser    func(*contender) error // into a user's container on one host, from the host or another one
}

const debian = "as root: apt-get install --no-install-recommends "

// entries lists all contenders; also holds further weave binaries by label.
func entries(also map[string]string) []entry {
	all := []entry{
		{name: "veth", title: "raw veth", join: bareCable, joinAlone: bareBridge},
		{name: "vxlan", title: "kernel VXLAN (clear)", join: kernelVXLAN},
		{name: "wireguard-go", title: "wireguard-go", needs: []string{"wireguard-go"}, hint: "make bench builds it", peer: true, join: wireguardGo},
		{name: "nebula", title: "nebula", needs: []string{"nebula", "nebula-cert"}, hint: "make bench builds it", peer: true, join: nebula},
		{name: "tinc", title: "tinc (switch)", needs: []string{"tincd"}, hint: debian + "tinc", peer: true, join: tinc},
		{name: "fastd", title: "fastd (tap)", needs: []string{"fastd"}, hint: debian + "fastd", peer: true, join: fastd},
		weaveEntry("weave", ""),
		{name: "weave-user", title: "weave without root", asked: true, join: weaveUser, joinAlone: weaveUserAlone, joinUser: weaveUserAlone},
		{name: "weave-publish", title: "weave, published port", asked: true, joinUser: weavePublished},
		{
			name: "slirp4netns", title: "slirp4netns, published port", needs: []string{"slirp4netns"}, hint: debian + "slirp4netns",
			asked: true, joinUser: slirp,
		},
		{name: "pasta", title: "pasta, published port", needs: []string{"pasta"}, hint: debian + "passt", asked: true, joinUser: pasta},
		weaveFast(),
	}
	for _, label := range slices.Sorted(maps.Keys(also)) {
		all = append(all, weaveEntry(label, also[label]))
	}
	return all
}

func (e entry) key() string { return e.name }

// lacks names the first program that is not there.
func (e entry) lacks(programs string) string {
	for _, name := range e.needs {
		if _, err := find(programs, name); err != nil {
			return name
		}
	}
	return ""
}

// find looks for a program where the bench builds them, then on the path.
func find(programs, name string) (string, error) {
	if path, err := filepath.Abs(filepath.Join(programs, name)); err == nil {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

// figures are the numbers of one measurement by name.
type figures map[string]float64

func (f figures) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		parts = append(parts, fmt.Sprintf("%s=%.4g", name, f[name]))
	}
	return strings.Join(parts, " ")
}

// contender is one way to join two containers, standing on its own hosts.
type contender struct {
	entry
	lab      *lab.Lab
	programs string
	mtu      int         // of the underlay
	from, to *lab.NS     // the containers
	addr     string      // of `to`, as seen by `from`
	dev      string      // by which; "" where a container is not at that end
	pids     []int       // its daemons
	procs    []*exec.Cmd // beside the lab's own
	failed   map[string]int
	figures  map[string][]float64
}

func newContender(e entry, u underlay, programs string, m *meter) (*contender, error) {
	c := &contender{entry: e, programs: programs, mtu: u.mtu, dev: "ethwe", failed: map[string]int{}, figures: map[string][]float64{}}
	var err error
	if c.lab, err = u.build(); err != nil {
		return c, err
	}
	c.plainBridges()
	for _, h := range c.lab.Hosts {
		unpaced(h.NS)
	}
	if u.delay > 0 {
		err = startRelay(c, u, m)
	}
	return c, err
}

// plainBridges keeps bridged frames from iptables' rules and connection tracking, as on hosts without br_netfilter, where
// this kernel has it built in: who has rules of any kind would pay for it, and who has none would not.
func (c *contender) plainBridges() {
	for _, h := range c.lab.Hosts {
		for _, family := range []string{"iptables", "ip6tables", "arptables"} {
			_ = h.Sysctl("net/bridge/bridge-nf-call-"+family, "0") // where it is not there nothing is to be done
		}
	}
}

func (c *contender) reaches() error {
	_, err := c.from.Ping(c.addr, 56, time.Second)
	return err
}

// reachesInFull asks the same with the largest packet that the containers'
// MTU allows. A path that is still being measured may take a few tries.
func (c *contender) reachesInFull() error {
	if c.dev == "" {
		return nil
	}
	mtu := 0
	err := c.from.WithLink(c.dev, func(_ *netlink.Handle, l netlink.Link) error { mtu = l.Attrs().MTU; return nil })
	if err != nil {
		return err
	}
	const headers = 28 // IPv4 and ICMP
	return lab.Eventually(5*time.Second, func() error {
		_, err := c.from.Ping(c.addr, mtu-headers, time.Second)
		return err
	})
}

// fragments is how many packets the hosts had to cut in pieces.
func (c *contender) fragments() (n int) {
	for _, h := range c.lab.Hosts {
		_ = h.Do(func() error {
			text, err := os.ReadFile("/proc/thread-self/net/snmp")
			n += fragmented(string(text))
			return err
		})
	}
	return n
}

// fragmented reads FragOKs from the two lines "Ip:" of /proc/net/snmp, names
// and values.
func fragmented(snmp string) int {
	var names []string
	for line := range strings.Lines(snmp) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "Ip:" {
			continue
		}
		if names == nil {
			names = f
		} else if i := slices.Index(names, "FragOKs"); i > 0 && i < len(f) {
			n, _ := strconv.Atoi(f[i])
			return n
		}
	}
	return 0
}

// start starts a program that runs as long as the contender; what it says is
// kept in a file.
func (c *contender) start(n *lab.NS, cmd *exec.Cmd) error {
	log, err := os.Create(filepath.Join(c.lab.Dir, fmt.Sprintf("%s-%d.log", filepath.Base(cmd.Path), len(c.procs))))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stderr = log
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	if err := n.Start(cmd); err != nil {
		return err
	}
	c.procs = append(c.procs, cmd)
	return nil
}

// daemon is start for what carries the contender's traffic.
func (c *contender) daemon(n *lab.NS, cmd *exec.Cmd) error {
	if err := c.start(n, cmd); err != nil {
		return err
	}
	c.pids = append(c.pids, cmd.Process.Pid)
	return nil
}

// logs is the last words of every program, for a note.
func (c *contender) logs() string {
	if c.lab == nil {
		return ""
	}
	files, _ := filepath.Glob(filepath.Join(c.lab.Dir, "*.log"))
	var all strings.Builder
	for _, f := range files {
		text, _ := os.ReadFile(f)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if last := lines[len(lines)-1]; last != "" {
			fmt.Fprintf(&all, "; %s: %s", filepath.Base(f), last)
		}
	}
	return all.String()
}

// remember notes the memory of the larger daemon.
func (c *contender) remember(when string) {
	for i, pid := range c.pids {
		mb, err := rss(pid)
		if err != nil {
			continue
		}
		if i == 0 {
			c.figures[when] = []float64{mb}
		} else if have := c.figures[when]; len(have) > 0 {
			have[0] = max(have[0], mb)
		}
	}
}

// close ends the contender's processes and takes its network down.
func (c *contender) close() {
	for _, p := range c.procs {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
	if c.lab != nil {
		_ = c.lab.Close()
	}
}

// unpaced has the TCP connections of a namespace begin with Reno, which every namespace may have. iperf3 asks for cubic once it is
// connected. Had the connection begun with BBR, as some machines prefer, the kernel would go on to pace it: a timer's interrupt for
// each super-frame, which halves what some contenders carry (net/ipv4/tcp_bbr.c, bbr_init).
func unpaced(n *lab.NS) {
	_ = n.Sysctl("net/ipv4/tcp_congestion_control", "reno") // a kernel without it has none that paces either
}

func (c *contender) ends(i int, n *lab.NS) {
	unpaced(n)
	if i == 0 {
		c.from = n
	} else {
		c.to = n
	}
}

// bridged makes a container on each host a port of a bridge, beside the
// contender's own:
//
//	c1 ── br ── dev ═══ dev ── br ── c2
func (c *contender) bridged(dev string, mtu int) error {
	c.addr = "10.31.0.2"
	for i, h := range c.lab.Hosts {
		n, err := h.NewContainer()
		if err != nil {
			return err
		}
		err = errors.Join(
			lab.Bridge(h.NS, "br", mtu),
			lab.Enslave(h.NS, dev, "br"),
			setMTU(h.NS, dev, mtu),
			h.Up(dev),
			lab.Veth(h.NS, "veth", n.NS, "ethwe", mtu),
			lab.Enslave(h.NS, "veth", "br"),
			n.AddAddr("ethwe", fmt.Sprintf("10.31.0.%d/24", i+1)))
		if err != nil {
			return err
		}
		c.ends(i, n.NS)
	}
	return nil
}

// routed makes each host the router between its container and the contender's
// own interface:
//
//	c1 10.31.1.2 ── 10.31.1.1 host1 dev ═══ dev host2 10.31.2.1 ── 10.31.2.2 c2
func (c *contender) routed(dev string, mtu int) error {
	c.addr = "10.31.2.2"
	for i, h := range c.lab.Hosts {
		n, err := h.NewContainer()
		if err != nil {
			return err
		}
		side := i + 1
		gateway := fmt.Sprintf("10.31.%d.1", side)
		err = errors.Join(
			lab.Veth(h.NS, "veth", n.NS, "ethwe", mtu),
			h.AddAddr("veth", gateway+"/24"),
			n.AddAddr("ethwe", fmt.Sprintf("10.31.%d.2/24", side)),
			h.Sysctl("net/ipv4/ip_forward", "1"),
			h.Up(dev),
			route(h.NS, dev, fmt.Sprintf("10.31.%d.0/24", 3-side), ""),
			route(n.NS, "ethwe", "10.31.0.0/16", gateway))
		if err != nil {
			return err
		}
		c.ends(i, n.NS)
	}
	return nil
}

// route sends dst out of dev, in place of a route the contender made itself.
func route(n *lab.NS, dev, dst, via string) error {
	return n.WithLink(dev, func(h *netlink.Handle, l netlink.Link) error {
		_, to, err := net.ParseCIDR(dst)
		if err != nil {
			return err
		}
		return h.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: to, Gw: net.ParseIP(via)})
	})
}

func setMTU(n *lab.NS, dev string, mtu int) error {
	return n.WithLink(dev, func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetMTU(l, mtu) })
}

// appears waits for an interface that a daemon makes.
func appears(n *lab.NS, dev string) error {
	return lab.Eventually(10*time.Second, func() error {
		return n.WithLink(dev, func(*netlink.Handle, netlink.Link) error { return nil })
	})
}
