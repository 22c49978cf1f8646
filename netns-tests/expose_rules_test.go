package netnstests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"weave/netns-tests/lab"
)

// dockerBridge is the bridge that Docker makes.
const dockerBridge = "docker0"

// system runs a program of the system in a namespace; it must succeed.
func system(t *testing.T, n *lab.NS, words ...string) string {
	t.Helper()
	if _, err := exec.LookPath(words[0]); errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	r := n.Run(ctx, nil, "", words[0], words[1:]...)
	if r.RC != 0 || r.Err != nil {
		t.Fatal(r)
	}
	return r.Stdout
}

// reaches waits until an address answers.
func reaches(t *testing.T, from *lab.NS, addr string) {
	t.Helper()
	eventually(t, settle, func() error {
		_, err := from.Ping(addr, 56, 200*time.Millisecond)
		return err
	})
}

// cutOff checks that nothing comes back.
func cutOff(t *testing.T, from *lab.NS, addr string) {
	t.Helper()
	for range 3 {
		if _, err := from.Ping(addr, 56, 200*time.Millisecond); err == nil {
			t.Errorf("%s reaches %s", from.Name, addr)
			return
		}
	}
}

// serves listens and tells where the next connection comes from.
func serves(t *testing.T, n *lab.NS, addr string) <-chan string {
	t.Helper()
	l := listens(t, n, addr)
	from := make(chan string, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			from <- host
			c.Close()
		}
	}()
	return from
}

// comesFrom dials and checks where the connection is seen to come from.
func comesFrom(t *testing.T, n *lab.NS, addr string, seen <-chan string, want string) {
	t.Helper()
	c, err := n.Dial(addr, soon)
	must(t, err)
	defer c.Close()
	if got := <-seen; got != want {
		t.Errorf("what %s sends to %s comes from %s, want %s", n.Name, addr, got, want)
	}
}

// dockerRules are what dockerd 20.10 makes, and a bridge with a container.
func dockerRules(t *testing.T, h *lab.Host) *lab.Container {
	t.Helper()
	for _, rule := range []string{
		"-t nat -N DOCKER", "-N DOCKER", "-N DOCKER-ISOLATION-STAGE-1", "-N DOCKER-ISOLATION-STAGE-2", "-N DOCKER-USER", "-P FORWARD DROP",
		"-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER", "-t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
		"-A FORWARD -j DOCKER-USER", "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
		"-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A FORWARD -o docker0 -j DOCKER",
		"-A FORWARD -i docker0 ! -o docker0 -j ACCEPT", "-A FORWARD -i docker0 -o docker0 -j ACCEPT",
		"-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2", "-A DOCKER-ISOLATION-STAGE-1 -j RETURN",
		"-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP", "-A DOCKER-ISOLATION-STAGE-2 -j RETURN", "-A DOCKER-USER -j RETURN",
		"-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -j ACCEPT", // a published port, more or less
	} {
		system(t, h.NS, append([]string{"iptables"}, strings.Fields(rule)...)...)
	}
	c, err := h.NewContainer()
	must(t, err)
	must(t, lab.Bridge(h.NS, dockerBridge, 1500), lab.Veth(h.NS, "vethdocker", c.NS, "eth0", 1500), lab.Enslave(h.NS, "vethdocker", dockerBridge))
	must(t, h.AddAddr(dockerBridge, "172.17.0.1/16"), c.AddAddr("eth0", "172.17.0.2/16"))
	system(t, c.NS, "ip", "route", "add", "default", "via", "172.17.0.1")
	return c
}

// Docker's rules drop what they do not know, also what the bridge carries, where the kernel shows it to them.
//
//	outside ── host1 ── c1, c2, docker's d
func TestExposeBesideDocker(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	one, outside := l.Hosts[0], l.Hosts[1]
	d := dockerRules(t, one)
	before := system(t, one.NS, "iptables-save")
	launch(t, one)
	if err := one.Sysctl("net/bridge/bridge-nf-call-iptables", "1"); err != nil {
		t.Log("the bridge is not shown to iptables here: ", err)
	}
	c1, c2 := container(t, one, "10.2.1.1/24"), container(t, one, "10.2.1.2/24")
	reaches(t, c1.NS, "10.2.1.2") // nothing is exposed yet
	if got := run(t, one, "expose", "10.2.1.10/24"); got != "10.2.1.10\n" {
		t.Errorf("expose printed %q", got)
	}
	for _, c := range []*lab.Container{c1, c2} {
		system(t, c.NS, "ip", "route", "add", "default", "via", "10.2.1.10")
	}
	seen := serves(t, outside.NS, outside.IP+":7777")
	comesFrom(t, c1.NS, outside.IP+":7777", seen, one.IP)
	system(t, outside.NS, "ip", "route", "add", "10.2.1.0/24", "via", one.IP)
	reaches(t, outside.NS, "10.2.1.1")
	cutOff(t, d.NS, "10.2.1.1")
	reaches(t, c1.NS, "172.17.0.2") // and answers come back
	inside := serves(t, c1.NS, "10.2.1.1:80")
	run(t, one, "service", "export", "8080", "10.2.1.1:80")
	for len(inside) > 0 { // what tried the target
		<-inside
	}
	comesFrom(t, d.NS, "172.17.0.1:8080", inside, "10.2.1.10")
	run(t, one, "service", "remove", "8080")
	if got := system(t, one.NS, "iptables", "-S", "FORWARD"); !strings.Contains(got, `-i weave -o weave -m comment --comment "made by weave`) {
		t.Errorf("iptables shows\n%s", got)
	}
	t.Run("saved and restored", func(t *testing.T) { // as iptables-persistent does
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		if r := one.Run(ctx, nil, system(t, one.NS, "iptables-save"), "iptables-restore"); r.RC != 0 {
			t.Fatal(r)
		}
		reaches(t, outside.NS, "10.2.1.1")
		if err := lab.Steadily(time.Second, func() error {
			if got := system(t, one.NS, "iptables", "-S", "FORWARD"); strings.Count(got, "made by weave") > 3 {
				return fmt.Errorf("rules were made twice:\n%s", got)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	t.Run("flushed", func(t *testing.T) {
		system(t, one.NS, "iptables", "-F", "FORWARD")
		reaches(t, outside.NS, "10.2.1.1")
		reaches(t, c1.NS, "10.2.1.2")
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		if r := one.Run(ctx, nil, before, "iptables-restore"); r.RC != 0 { // dockerd starts again
			t.Fatal(r)
		}
		reaches(t, outside.NS, "10.2.1.1")
	})
	run(t, one, "hide", "10.2.1.10/24")
	cutOff(t, outside.NS, "10.2.1.1")
	reaches(t, c1.NS, "10.2.1.2")
	run(t, one, "reset")
	counts := regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]`)
	if got := system(t, one.NS, "iptables-save"); counts.ReplaceAllString(got, "") != counts.ReplaceAllString(before, "") {
		t.Errorf("reset left\n%swhere there was\n%s", got, before)
	}
	if got := nft(t, one, "list", "tables"); strings.Contains(got, "weave") {
		t.Errorf("reset left\n%s", got)
	}
}

// firewalldRules are the parts of a table of firewalld that matter: policies accept, and the last rule rejects.
const firewalldRules = `table inet firewalld {
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		jump filter_FORWARD_ZONES
		ct state { invalid } drop
		reject with icmpx admin-prohibited
	}
	chain filter_FORWARD_ZONES { jump filter_FWD_public; }
	chain filter_FWD_public { meta l4proto { icmp, ipv6-icmp } accept; }
}`

// firewalld rejects by a last rule, and makes its table anew when it is reloaded.
func TestExposeBesideFirewalld(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 2})
	one, outside := l.Hosts[0], l.Hosts[1]
	nft(t, one, firewalldRules)
	launch(t, one)
	c := container(t, one, "net:default")
	gateway := strings.TrimSpace(run(t, one, "expose"))
	system(t, c.NS, "ip", "route", "add", "default", "via", gateway)
	seen := serves(t, outside.NS, outside.IP+":7777")
	comesFrom(t, c.NS, outside.IP+":7777", seen, one.IP)
	for range 3 {
		nft(t, one, "delete table inet firewalld; "+firewalldRules)
		began := time.Now()
		eventually(t, soon, func() error {
			conn, err := c.Dial(outside.IP+":7777", 300*time.Millisecond)
			if err != nil {
				return err
			}
			return conn.Close()
		})
		t.Logf("through again %v after a reload", time.Since(began).Round(time.Millisecond))
	}
}

// Where what is for the host is dropped unless somebody allowed it, as by ufw and firewalld, containers reach its name server
// all the same, and nothing else of it.
func TestNamesWhereInputIsClosed(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 1})
	one := l.Hosts[0]
	for _, rule := range []string{"-P INPUT DROP", "-A INPUT -i lo -j ACCEPT", "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"} {
		system(t, one.NS, append([]string{"iptables"}, strings.Fields(rule)...)...)
	}
	nft(t, one, "table inet firewalld { chain filter_INPUT { type filter hook input priority filter + 10; "+
		"ct state { established, related } accept; iifname \"lo\" accept; reject with icmpx admin-prohibited; }; }")
	before := system(t, one.NS, "iptables", "-S")
	launch(t, one)
	c := named(t, one, "10.2.1.1/24", "--name", "web")
	resolves(t, c, "web.weave.local.", "10.2.1.1")
	server := nameServer(t, one)
	if m, err := query(c.NS, "tcp", server, "web.weave.local.", mdns.TypeA); err != nil || len(addresses(m)) != 1 {
		t.Errorf("over TCP: %v, %v", m, err)
	}
	echo, err := one.EchoTCP(":9999")
	must(t, err)
	defer echo.Close()
	if conn, err := c.Dial(server+":9999", 300*time.Millisecond); err == nil {
		conn.Close()
		t.Error("a container reaches another port of the host")
	}
	shown := system(t, one.NS, "iptables", "-S", "INPUT")
	for _, want := range []string{"-p udp -m udp --dport 53 ", "-p tcp -m tcp --dport 53 "} {
		if !strings.Contains(shown, want) {
			t.Errorf("iptables does not show %q:\n%s", want, shown)
		}
	}
	system(t, one.NS, "iptables", "-F", "INPUT")
	eventually(t, soon, func() error {
		_, err := query(c.NS, "udp", server, "web.weave.local.", mdns.TypeA)
		return err
	})
	run(t, one, "reset")
	if got := system(t, one.NS, "iptables", "-S"); strings.Contains(got, "weave") {
		t.Errorf("reset left\n%swhere there was\n%s", got, before)
	}
}

// The other options of expose: IPv6, without masquerade, a subnet of its own, both ways on its own and on another host.
//
//	outside (host3) ── host1 ── c1
//	                   host2 ── c2
func TestExposeFamiliesAndMasquerade(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	one, two, outside := l.Hosts[0], l.Hosts[1], l.Hosts[2]
	launch(t, one)
	launch(t, two, one.IP)
	waitMesh(t, one, two)
	c1, ip1 := attached(t, one)
	c2, ip2 := attached(t, two)
	gateway := strings.TrimSpace(run(t, one, "expose"))
	ps := strings.Fields(run(t, one, "ps", "weave:expose"))
	if len(ps) != 4 || ps[0] != "weave:expose" || !strings.HasPrefix(ps[2], gateway+"/") || !strings.Contains(ps[3], ":") {
		t.Fatalf("ps shows %q", ps)
	}
	gateway6, _, _ := strings.Cut(ps[3], "/")
	for _, c := range []struct {
		*lab.Container
		ip string
	}{{c1, ip1}, {c2, ip2}} {
		reaches(t, c.NS, gateway)
		reaches(t, c.NS, gateway6)
		reaches(t, one.NS, c.ip)
		reaches(t, one.NS, v6Of(t, c.Container, c.ip))
		system(t, c.NS, "ip", "route", "add", "default", "via", gateway)
		system(t, c.NS, "ip", "-6", "route", "add", "default", "via", gateway6)
	}
	seen := serves(t, outside.NS, ":7777")
	comesFrom(t, c1.NS, outside.IP+":7777", seen, one.IP)
	comesFrom(t, c2.NS, outside.IP+":7777", seen, one.IP)
	comesFrom(t, c1.NS, "["+outside.IP6+"]:7777", seen, one.IP6)
	run(t, one, "expose", "--without-masquerade") // the same address: the last word counts
	system(t, outside.NS, "ip", "route", "add", "10.32.0.0/12", "via", one.IP)
	comesFrom(t, c1.NS, outside.IP+":7777", seen, ip1)
	again := nft(t, one, "-s", "list", "table", "inet", "weave")
	run(t, one, "stop")
	reaches(t, one.NS, ip1) // as containers' interfaces do, address and rules stay
	if got := nft(t, one, "-s", "list", "table", "inet", "weave"); got != again {
		t.Errorf("after a stop the rules are\n%s", got)
	}
	launch(t, one, two.IP)
	if got := nft(t, one, "-s", "list", "table", "inet", "weave"); got != again {
		t.Errorf("after a launch the rules are\n%s, before\n%s", got, again)
	}
	comesFrom(t, c1.NS, outside.IP+":7777", seen, ip1)
	run(t, one, "expose")
	comesFrom(t, c1.NS, outside.IP+":7777", seen, one.IP)
	if got := run(t, one, "hide"); got != gateway+"\n" {
		t.Errorf("hide printed %q", got)
	}
	if got := run(t, one, "hide"); got != "\n" {
		t.Errorf("a second hide printed %q", got)
	}
	cutOff(t, c1.NS, gateway)
	if got := run(t, one, "ps", "weave:expose"); got != "" {
		t.Errorf("ps shows %q", got)
	}
}

// What cannot be exposed is said, and nothing is left of it.
func TestExposeRefusals(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h)
	before := nft(t, h, "-s", "list", "ruleset")
	c := container(t, h, "10.32.0.9/12")
	refused(t, h, 1, "this host is in that subnet already: 10.99.0.0/24, by 10.99.0.1 of eth0", "expose", "10.99.0.77/24")
	refused(t, h, 1, "already owned by", "expose", "10.32.0.9/12")
	refused(t, h, 1, "Usage", "expose", "10.2.1.1/33")
	refused(t, h, 1, "Usage", "expose", "somebody")
	refused(t, h, 1, "Usage", "hide", "somebody")
	refused(t, h, 1, "Usage", "expose", "-h", "a", "-h", "b")
	refused(t, h, 1, "224.0.0.1/24", "expose", "224.0.0.1/24")
	refused(t, h, 1, "invalid subnet", "expose", "net:10.32.0.1/12")
	if got := run(t, h, "ps", "weave:expose"); got != "" {
		t.Errorf("ps shows %q", got)
	}
	if got := nft(t, h, "-s", "list", "ruleset"); got != before {
		t.Errorf("refusals left\n%s", got)
	}
	reaches(t, c.NS, "10.32.0.9")
}
