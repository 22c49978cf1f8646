package netnstests

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// vni is that of weave's VXLAN.
const vni = 0x776561

// vxlan sends a frame in VXLAN from a namespace to a host, as whoever knows the protocol can.
func vxlan(t *testing.T, from *lab.NS, to string, frame []byte) {
	t.Helper()
	head := make([]byte, 8)
	head[0] = 8 // there is a VNI (RFC 7348, section 5)
	binary.BigEndian.PutUint32(head[4:], vni<<8)
	must(t, from.Do(func() error {
		c, err := net.Dial("udp", net.JoinHostPort(to, fmt.Sprint(vxlanPort)))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(append(head, frame...))
		return err
	}))
}

// Nothing gets into the overlay by VXLAN but from the peers that are on the kernel path; from these the same frame does,
// which shows that it is well made. A network with a password lets nobody in:
//
//	c1 ── host1 ═══ host2
//	         ╚═ ✗ ═ host3, which runs no weave
func TestFastdpSpoofed(t *testing.T) {
	for _, c := range []struct {
		what string
		args []string
		fast bool
	}{{"clear", nil, true}, {"password", []string{"--password", "word"}, false}} {
		t.Run(c.what, func(t *testing.T) {
			l := newLab(t, lab.Config{Hosts: 3})
			h := l.Hosts
			launch(t, h[0], c.args...)
			launch(t, h[1], append([]string{h[0].IP}, c.args...)...)
			waitMesh(t, h[:2]...)
			if c.fast {
				onFast(t, h[:2]...)
			}
			c1 := container(t, h[0], "10.2.1.1/24")
			got := count(t, c1)
			mac := net.HardwareAddr{0x02, 1, 2, 3, 4, 5}
			frame := func(text string) []byte {
				return lab.Frame(lab.Broadcast(), mac, countedType, append([]byte(text), make([]byte, 40)...))
			}
			for _, to := range []string{h[0].IP, h[0].IP6} {
				vxlan(t, h[2].NS, to, frame("from a stranger "))
			}
			if c.fast {
				eventually(t, soon, func() error { // the peer's other address may be let in a moment later
					vxlan(t, h[1].NS, h[0].IP, frame("from a peer     "))
					if got.of("from a peer     ") == 0 {
						return errors.New("the frame of a peer on the path did not come")
					}
					return nil
				})
			} else if encryptsInKernel(h[0]) {
				t.Log("what host2 sends is encrypted by its kernel, and may come in")
			} else if err := lab.Steadily(time.Second, func() error {
				vxlan(t, h[1].NS, h[0].IP, frame("from a peer     "))
				if got.of("from a peer     ") != 0 {
					return errors.New("a frame in clear came in")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			if got.of("from a stranger ") != 0 {
				t.Error("a stranger's frame came in")
			}
			run(t, h[0], "stop") // the rules outlive the daemon
			for _, to := range []string{h[0].IP, h[0].IP6} {
				vxlan(t, h[2].NS, to, frame("again a stranger"))
			}
			if c.fast {
				vxlan(t, h[1].NS, h[0].IP, frame("again a peer    "))
				eventually(t, soon, func() error {
					if got.of("again a peer    ") != 1 {
						return errors.New("without a daemon the frame of a peer did not come")
					}
					return nil
				})
			}
			if got.of("again a stranger") != 0 {
				t.Error("without a daemon a stranger's frame came in")
			}
		})
	}
}

// encryptsInKernel tells whether a host's kernel has what the encrypted kernel path takes.
func encryptsInKernel(h *lab.Host) bool {
	state := func(what string, more ...string) lab.Result {
		args := []string{"xfrm", "state", what, "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "0x1000"}
		return h.Run(context.Background(), nil, "", "ip", append(args, more...)...)
	}
	ok := state("add", "mode", "transport", "aead", "rfc4106(gcm(aes))", "0x"+strings.Repeat("11", 36), "128").RC == 0
	state("delete")
	link := func(what string, more ...string) bool {
		return h.Run(context.Background(), nil, "", "ip", append([]string{"link", what, "wgtest"}, more...)...).RC == 0
	}
	return ok || link("add", "type", "wireguard") && link("delete")
}

// With a password the kernel path is in clear for hosts that trust each other's subnets, both of them; for others it is
// there only where the kernel encrypts it (netns-tests/vm/guest looks at that):
//
//	host1 ═══ host2
func TestFastdpPassword(t *testing.T) {
	const all = "10.99.0.0/24,fd99::/64"
	for _, c := range []struct {
		what         string
		first, other []string
		words        []string
	}{
		{"nobody trusts", nil, nil, nil},
		{"one trusts", []string{"--trusted-subnets", all}, nil, nil},
		{
			"both trust",
			[]string{"--trusted-subnets", all},
			[]string{"--trusted-subnets", all},
			[]string{"established unencrypted fastdp", "encrypted=falsemtu=1376"},
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			l := newLab(t, lab.Config{Hosts: 2})
			launch(t, l.Hosts[0], append([]string{"--password", "word"}, c.first...)...)
			launch(t, l.Hosts[1], append([]string{l.Hosts[0].IP, "--password", "word"}, c.other...)...)
			waitMesh(t, l.Hosts...)
			switch {
			case c.words == nil && encryptsInKernel(l.Hosts[0]):
				c.words = []string{"established encrypted   fastdp", "encrypted=true"}
			case c.words == nil:
				c.words = []string{
					"established encrypted   sleeve", "encrypted=true", "no fastdp: encrypted, and here the kernel has no ",
					"; here the kernel has no WireGuard (module wireguard)",
				}
			}
			shows(t, l.Hosts[0], settle, append([]string{"(host2)"}, c.words...)...)
			shows(t, l.Hosts[1], settle, append([]string{"(host1)"}, c.words...)...)
			joinPair(t, l)
			if err := lab.Steadily(3*time.Second, func() error {
				return overlays(l.Hosts[0], strings.Fields(c.words[0])[2], 1)
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// A daemon is killed and launched again, first the one, then the other, and no ping is lost:
//
//	c1 ── host1 ═══ host2 ── c2
//	       †↺        †↺
func TestFastdpOutlivesDaemon(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	launch(t, l.Hosts[0], "--no-restart")
	launch(t, l.Hosts[1], "--no-restart", l.Hosts[0].IP)
	waitMesh(t, l.Hosts...)
	onFast(t, l.Hosts...)
	p := joinPair(t, l)
	tcp := hold(t, p.c1.NS, p.c2.NS, "10.2.1.2:7")
	tcp.asks(t, soon)
	eventually(t, soon, func() error { // the bridges know both containers by the kernel path
		return errors.Join(knownByKernel(t, p.Hosts[0], ethwe(t, p.c2).MAC), knownByKernel(t, p.Hosts[1], ethwe(t, p.c1).MAC))
	})
	stop, done := make(chan struct{}), make(chan struct{})
	var sent atomic.Int64
	var lost error
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := p.c1.Ping("10.2.1.2", 56, time.Second); err != nil {
				lost = errors.Join(lost, fmt.Errorf("ping %d: %w", sent.Load(), err))
			}
			sent.Add(1)
		}
	}()
	for i, h := range l.Hosts {
		pid, err := h.DaemonPID()
		must(t, err, kill(pid))
		eventually(t, soon, func() error {
			if left := h.PIDs(); len(left) > 0 {
				return fmt.Errorf("processes %v still run", left)
			}
			return nil
		})
		from := sent.Load()
		eventually(t, soon, func() error { // long enough for the other end to miss it
			if n := sent.Load() - from; n < 500 {
				return fmt.Errorf("%d pings yet", n)
			}
			return nil
		})
		if err := lab.Steadily(5*time.Second, func() error { return overlays(l.Hosts[1-i], "fastdp", 0) }); err != nil {
			t.Logf("the other end: %v", err) // it shows no connection at all
		}
		args := []string{"--no-restart", l.Hosts[0].IP}
		launch(t, h, args[:1+i]...)
		waitMesh(t, l.Hosts...)
		onFast(t, l.Hosts...)
	}
	if err := lab.Steadily(4*time.Second, func() error { return overlays(l.Hosts[0], "fastdp", 1) }); err != nil {
		t.Error(err)
	}
	close(stop)
	<-done
	if lost != nil {
		t.Error(lost)
	}
	t.Logf("%d pings", sent.Load())
	tcp.asks(t, soon)
	for _, h := range l.Hosts {
		if strings.Contains(h.Log(), "off the kernel path") {
			t.Errorf("host%d left the path", h.Index)
		}
	}
}

// knownByKernel is an error unless a host's bridge knows a MAC behind VXLAN.
func knownByKernel(t *testing.T, h *lab.Host, mac string) error {
	var all string
	for _, dev := range []string{"weave-vx4", "weave-vx6"} { // the path may be of either family
		r := h.Run(t.Context(), nil, "", "bridge", "fdb", "show", "dev", dev)
		if r.RC != 0 || r.Err != nil {
			return fmt.Errorf("bridge: %v", r)
		}
		all += r.Stdout
	}
	for line := range strings.Lines(all) {
		if strings.HasPrefix(line, mac) && strings.Contains(line, "master weave") {
			return nil
		}
	}
	return fmt.Errorf("host%d does not know %s behind VXLAN:\n%s", h.Index, mac, all)
}

// A host on which somebody else has the port goes without, and says so once; so does one that was told to, which also
// takes away what an earlier launch had made:
//
//	host1 ═══ host2
func TestFastdpRefused(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	h := l.Hosts
	var taken net.PacketConn
	must(t, h[0].Do(func() (err error) {
		taken, err = net.ListenPacket("udp", fmt.Sprintf(":%d", vxlanPort))
		return err
	}))
	defer taken.Close()
	launch(t, h[0])
	launch(t, h[1], h[0].IP)
	waitMesh(t, h...)
	shows(t, h[0], settle, "sleeve", "(host2)", "no fastdp: UDP port 6784 is taken here")
	shows(t, h[1], settle, "sleeve", "(host1)", "no fastdp: not offered by the other end")
	if n := strings.Count(h[0].Log(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings", n)
	}
	must(t, taken.Close())
	run(t, h[0], "stop")
	launch(t, h[0])
	waitMesh(t, h...)
	onFast(t, h...)
	run(t, h[0], "stop")
	if got := linkNames(t, h[0].NS); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "weave-vx4 ") }) {
		t.Errorf("stop took the kernel path away: %v", got)
	}
	r := h[0].WeaveEnv([]string{"WEAVE_NO_FASTDP=1"}, "launch")
	if r.RC != 0 {
		t.Fatal(r)
	}
	waitMesh(t, h...)
	onSleeve(t, settle, h...)
	shows(t, h[0], settle, "no fastdp: --no-fastdp")
	if got := linkNames(t, h[0].NS); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "-vx") }) {
		t.Errorf("still there: %v", got)
	}
	r = h[0].Run(t.Context(), nil, "", "nft", "list", "tables")
	if r.Err != nil || strings.Contains(r.Stdout, "fastdp") {
		t.Errorf("tables: %v", r)
	}
	joinPair(t, l)
}
