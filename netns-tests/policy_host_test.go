package netnstests

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// webToDB lets web containers reach databases at port 80, and nothing else.
const webToDB = "group web name web*\ngroup db name db*\nallow web -> db tcp 80\ndefault deny\n"

// What is established, and what is denied, stays so while a daemon is killed or launched again, and when somebody flushes all rules.
func TestPolicySurvives(t *testing.T) {
	s, hosts := rootScene(t)
	one, two := hosts[0], hosts[1]
	s.policy(t, 1, webToDB)
	s.allows(t, "web1", "db1", "80")
	_, c, err := greeting(s.parties["web1"].ns, s.parties["db1"].ip+":80")
	must(t, err)
	defer c.Close()
	still := func(what string) {
		t.Helper()
		if err := talk(c, soon); err != nil {
			t.Errorf("%s: a connection broke: %v", what, err)
		}
		s.denies(t, "web1", "db1", "81")
		s.denies(t, "db1", "web1", "80")
		s.denies(t, "web1", "web2", "80")
		s.allows(t, "web2", "db1", "80")
	}
	for _, h := range []*lab.Host{one, two} {
		pid, err := h.DaemonPID()
		must(t, err, kill(pid))
		s.denies(t, "web1", "web2", "80") // also without a daemon
		eventually(t, settle, func() error {
			if r := h.Weave("policy", "show"); r.Stdout != webToDB {
				return fmt.Errorf("%v", r)
			}
			return nil
		})
		waitMesh(t, hosts...)
		still(fmt.Sprintf("host%d was killed", h.Index))
	}
	run(t, two, "stop")
	launch(t, two, one.IP)
	waitMesh(t, hosts...)
	still("host2 was launched again")
	for _, h := range []*lab.Host{one, two} {
		nft(t, h, "flush", "ruleset")
		eventually(t, time.Second, func() error {
			if r := h.Run(t.Context(), nil, "", "nft", "list", "chain", "bridge", "weave-policy", "rules4"); r.RC != 0 || !strings.Contains(r.Stdout, "tcp dport 80") {
				return fmt.Errorf("the rules are not there again: %v", r)
			}
			return nil
		})
	}
	s.denies(t, "web1", "db1", "81")
	s.allows(t, "web1", "db1", "80")
	nft(t, one, "flush", "chain", "bridge", "weave-policy", "rules4")
	eventually(t, time.Second, func() error {
		if text := nft(t, one, "list", "chain", "bridge", "weave-policy", "rules4"); !strings.Contains(text, "tcp dport 80") {
			return fmt.Errorf("the chain is %s", text)
		}
		return nil
	})
	nft(t, one, "flush", "set", "bridge", "weave-policy", "members4")
	eventually(t, time.Second, func() error {
		if text := nft(t, one, "list", "set", "bridge", "weave-policy", "members4"); !strings.Contains(text, s.parties["web1"].ip) {
			return fmt.Errorf("the set is %s", text)
		}
		return nil
	})
	run(t, one, "reset")
	if text := nft(t, one, "list", "ruleset"); strings.Contains(text, "weave") {
		t.Errorf("reset left\n%s", text)
	}
}

// Several set a policy at once, and one comes late: all end up with the same.
func TestPolicyTravels(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 4})
	first, late := l.Hosts[:3], l.Hosts[3]
	launch(t, first[0])
	launch(t, first[1], first[0].IP)
	launch(t, first[2], first[0].IP)
	waitMesh(t, first...)
	results := make(chan lab.Result, len(first))
	for _, h := range first {
		go func() { results <- h.Policy(fmt.Sprintf("# of host%d\ndefault deny\n", h.Index)) }()
	}
	for range first {
		if r := <-results; r.RC != 0 {
			t.Fatal(r)
		}
	}
	same := func(hosts ...*lab.Host) (text string) {
		t.Helper()
		eventually(t, settle, func() error {
			text = hosts[0].Weave("policy", "show").Stdout
			for _, h := range hosts {
				if got := h.Weave("policy", "show").Stdout; got != text || text == "" {
					return fmt.Errorf("host%d has %q, host%d %q", h.Index, got, hosts[0].Index, text)
				}
			}
			return nil
		})
		return text
	}
	before := same(first...)
	launch(t, late, first[1].IP)
	if got := same(l.Hosts...); got != before {
		t.Errorf("one that came late changed %q to %q", before, got)
	}
	c, ip := attached(t, late, "--name", "web1")
	d, ip2 := attached(t, first[0], "--name", "db1")
	cutOff(t, c.NS, ip2)
	if r := late.Policy("group w name web1\ngroup d peer host1\nallow w -> d icmp\ndefault deny\n"); r.RC != 0 {
		t.Fatal(r)
	}
	pings(t, c, ip2, soon)
	cutOff(t, d.NS, ip)
	// One whose name changes is in another group at once.
	run(t, late, "dns-remove", c.Name, "-h", "web1.weave.local")
	eventually(t, soon, func() error {
		if _, err := c.Ping(ip2, 56, 200*time.Millisecond); err == nil {
			return fmt.Errorf("a container without the name still reaches the other")
		}
		return nil
	})
	run(t, late, "dns-add", c.Name, "-h", "web1.weave.local")
	pings(t, c, ip2, soon)
	for _, h := range l.Hosts {
		run(t, h, "stop")
	}
	launch(t, late)
	if got := run(t, late, "policy", "show"); !strings.Contains(got, "allow w -> d icmp") {
		t.Errorf("launched again, it has %q", got)
	}
	if r := late.Policy("grup web name x\nallow web -> *\n"); r.RC != 1 || !strings.Contains(r.Stderr, "line 1: unknown word") || !strings.Contains(r.Stderr, "line 2: there is no group") {
		t.Error(r)
	}
}

// A frame that its sender's host lets pass is dropped by the receiver's. It is sent by the TAP, behind the bridge's rules.
func TestPolicyAtReceiver(t *testing.T) {
	s, hosts := rootScene(t)
	s.policy(t, 1, webToDB)
	s.allows(t, "web1", "db1", "80")
	web, db := s.parties["web1"], s.parties["db1"]
	tap, err := hosts[0].OpenTap(tapOf(t, hosts[0]))
	must(t, err)
	defer tap.Close()
	seen, err := db.ns.OpenTap("ethwe")
	must(t, err)
	defer seen.Close()
	for port, pass := range map[uint16]bool{80: true, 81: false} {
		frame := segment(macOf(t, web.ns), macOf(t, db.ns), web.ip, db.ip, 999, port)
		// The TAP's other end is the daemon: what is sent to the interface is what the bridge would send.
		must(t, tap.Send(frame))
		_, err := seen.Expect(time.Second, func(f []byte) bool {
			return len(f) >= 38 && f[23] == 6 && binary.BigEndian.Uint16(f[34:]) == 999 && binary.BigEndian.Uint16(f[36:]) == port
		})
		if (err == nil) != pass {
			t.Errorf("port %d: %v", port, err)
		}
	}
	counted(t, s, 2, "default deny")
	// What hosts say to each other on the kernel path is no container's, and goes on.
	eventually(t, settle, func() error { return overlays(hosts[0], "fastdp", 2) })
	must(t, lab.Steadily(3*time.Second, func() error { return overlays(hosts[0], "fastdp", 2) }))
	// Others see the same: what the loop read last.
	eventually(t, settle, func() error {
		version, _ := metric(t, hosts[1], "weave_policy_version")
		packets, _ := metric(t, hosts[1], `weave_policy_packets_total{rule="default"}`)
		bytes, _ := metric(t, hosts[1], `weave_policy_bytes_total{rule="default"}`)
		got := run(t, hosts[1], "report", "-f", "{{.Policy.Version}} {{.Policy.Default}} {{len .Policy.Rules}} {{with index .Policy.Other 0}}{{.Text}} {{.Packets}}{{end}}")
		if want := fmt.Sprintf("%d deny 1 default %d", version, packets); got != want || version == 0 || packets == 0 || bytes < 40*packets {
			return fmt.Errorf("report has %q, metrics version %d, %d packets, %d bytes", got, version, packets, bytes)
		}
		return nil
	})
}

// tapOf is the name of a host's uplink.
func tapOf(t *testing.T, h *lab.Host) string {
	t.Helper()
	name, _, _ := strings.Cut(run(t, h, "report", "-f", "{{.Router.Interface}}"), " ")
	return name
}

func macOf(t *testing.T, n *lab.NS) net.HardwareAddr {
	t.Helper()
	var mac net.HardwareAddr
	must(t, n.Do(func() error {
		i, err := net.InterfaceByName("ethwe")
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	}))
	return mac
}

// segment is a TCP SYN in a frame.
func segment(from, to net.HardwareAddr, src, dst string, sport, dport uint16) []byte {
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, sport)
	binary.BigEndian.PutUint16(tcp[2:], dport)
	tcp[12], tcp[13] = 0x50, 2
	return ipv4(from, to, src, dst, 6, tcp)
}

// ipv4 is a packet in a frame.
func ipv4(from, to net.HardwareAddr, src, dst string, proto byte, body []byte) []byte {
	h := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
	h = append(append(h, netip.MustParseAddr(src).AsSlice()...), netip.MustParseAddr(dst).AsSlice()...)
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
	return lab.Frame(to, from, 0x0800, append(h, body...))
}

// The host's own addresses are ends like any other, and names are served whatever the policy says.
func TestPolicyOfTheHost(t *testing.T) {
	s, hosts := rootScene(t)
	one := hosts[0]
	gateway, _, _ := strings.Cut(strings.TrimSpace(run(t, one, "expose")), "/")
	web := s.parties["web1"]
	reaches(t, one.NS, web.ip)
	s.policy(t, 1, webToDB)
	cutOff(t, one.NS, web.ip)
	cutOff(t, web.ns, gateway)
	if out := run(t, one, "report", "-f", "{{.DNS.Address}}"); out == "" {
		t.Fatal("no name server")
	}
	resolves(t, &lab.Container{NS: web.ns, Host: one}, "db1.weave.local.", s.parties["db1"].ip)
	s.policy(t, 1, webToDB+"allow "+gateway+" -> web icmp\n")
	reaches(t, one.NS, web.ip)
	cutOff(t, web.ns, gateway)
}
