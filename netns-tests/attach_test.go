package netnstests

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// A namespace can be named in three ways:
//
//	host1 ── by name, by path, by the id of a process in it
func TestAttachTargets(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h)
	for i, way := range []func(*lab.Container) string{
		func(c *lab.Container) string { return c.Name },
		func(c *lab.Container) string { return c.Path() },
		func(c *lab.Container) string { return strconv.Itoa(c.PID) },
	} {
		c, err := h.NewContainer()
		must(t, err)
		ip := fmt.Sprintf("10.2.1.%d", i+1)
		if out := run(t, h, "attach", ip+"/24", way(c)); out != ip+"\n" {
			t.Errorf("attach %s printed %q", way(c), out)
		}
		l := ethwe(t, c)
		if !l.Up || l.MTU != overlayMTU || !slices.Equal(l.Addrs, []string{ip + "/24"}) {
			t.Errorf("%s: ethwe is %+v", way(c), l)
		}
		if !multicastRoute(t, c) {
			t.Errorf("%s: no route for multicast", way(c))
		}
	}
}

// Several addresses, given at once or later, and taken away again:
//
//	host1 ── c1
func TestAttachAndDetachAddresses(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h)
	c, err := h.NewContainer()
	must(t, err)
	for _, step := range []struct {
		verb, prints string
		cidrs, left  []string
	}{
		{"attach", "10.2.1.1 10.2.2.1\n", []string{"10.2.1.1/24", "10.2.2.1/24"}, []string{"10.2.1.1/24", "10.2.2.1/24"}},
		{"attach", "10.2.1.1 10.2.2.1\n", []string{"10.2.1.1/24", "10.2.2.1/24"}, []string{"10.2.1.1/24", "10.2.2.1/24"}},
		{"attach", "10.2.3.1\n", []string{"10.2.3.1/24"}, []string{"10.2.1.1/24", "10.2.2.1/24", "10.2.3.1/24"}},
		{"detach", "10.2.1.1\n", []string{"10.2.1.1/24"}, []string{"10.2.2.1/24", "10.2.3.1/24"}},
		{"detach", "10.2.2.1 10.2.3.1\n", []string{"10.2.2.1/24", "10.2.3.1/24"}, nil},
	} {
		before, _ := look(t, c.NS, "ethwe")
		args := append(append([]string{step.verb}, step.cidrs...), c.Name)
		if out := run(t, h, args...); out != step.prints {
			t.Errorf("weave %v printed %q, want %q", args, out, step.prints)
		}
		after, there := look(t, c.NS, "ethwe")
		if there != (len(step.left) > 0) || !slices.Equal(after.Addrs, step.left) {
			t.Errorf("after weave %v: ethwe there: %v, %+v", args, there, after)
		}
		if before.Index != 0 && there && (after.Index != before.Index || after.MAC != before.MAC) {
			t.Errorf("weave %v made another interface: %+v, before %+v", args, after, before)
		}
	}
	run(t, h, "detach", "10.2.3.1/24", c.Name) // once more is no error
	run(t, h, "attach", "10.2.1.1/24", "--no-multicast-route", c.Name)
	if multicastRoute(t, c) {
		t.Error("--no-multicast-route made a route for multicast")
	}
}

// What cannot be attached is said in one line, and nothing is left behind:
//
//	host1 ── c1
func TestAttachRefusals(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h)
	c, err := h.NewContainer()
	must(t, err)
	refused(t, h, 1, "nobody", "attach", "10.2.1.1/24", "nobody")
	refused(t, h, 1, "", "attach", "10.2.1.1/99", c.Name)
	refused(t, h, 1, "", "attach", "10.2.1.1/24", "999999")
	refused(t, h, 1, "", "attach", "10.2.1.1/24", "/etc/passwd")
	refused(t, h, 1, "host network namespace", "attach", "10.2.1.1/24", h.Name)
	if _, there := look(t, c.NS, "ethwe"); there {
		t.Error("a refused attach left ethwe behind")
	}
	if out := run(t, h, "ps"); out != "" {
		t.Errorf("ps prints %q", out)
	}
}

// A new address is announced, so that nobody keeps an old neighbour entry:
//
//	c1 10.2.1.1 ── host1 ═══ host2 ── c2 gets 10.2.1.2
func TestAttachAnnouncesItself(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 2})
	onFast(t, l.Hosts...) // an announcement may miss a peer that is just being moved to that path
	c1 := container(t, l.Hosts[0], "10.2.1.1/24")
	tap, err := c1.OpenTap("ethwe")
	must(t, err)
	defer tap.Close()
	c2 := container(t, l.Hosts[1], "10.2.1.2/24")
	_, err = tap.Expect(soon, gratuitous(10, 2, 1, 2))
	must(t, err)
	run(t, l.Hosts[1], "attach", "10.2.1.3/24", c2.Name)
	_, err = tap.Expect(soon, gratuitous(10, 2, 1, 3))
	must(t, err)
}

// gratuitous matches ARP that names the same address as sender and target.
func gratuitous(ip ...byte) func([]byte) bool {
	return func(f []byte) bool {
		return len(f) >= 42 && f[12] == 8 && f[13] == 6 && bytes.Equal(f[28:32], ip) && bytes.Equal(f[38:42], ip)
	}
}

// Subnets keep apart, until somebody is in both:
//
//	c1 10.2.1.1/24 ── host1 ═══ host2 ── c2 10.2.2.1/24
func TestSubnetsAreIsolated(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 2})
	c1 := container(t, l.Hosts[0], "10.2.1.1/24")
	c2 := container(t, l.Hosts[1], "10.2.2.1/24")
	if _, err := c1.Ping("10.2.2.1", 56, time.Second); err == nil {
		t.Error("a container reaches another subnet")
	}
	run(t, l.Hosts[1], "attach", "10.2.1.2/24", c2.Name)
	pings(t, c1, "10.2.1.2", soon)
	if _, err := c1.Ping("10.2.2.1", 56, time.Second); err == nil {
		t.Error("a container reaches another subnet by its neighbour's other address")
	}
}

// Multicast stays in its subnet as well:
//
//	c1 10.2.1.1 ── host1 ═══ host2 ── c2 10.2.1.2, c3 10.2.2.3 (all in the group)
func TestMulticastStaysInItsSubnet(t *testing.T) {
	l := mesh(t, lab.Config{Hosts: 2})
	c1 := container(t, l.Hosts[0], "10.2.1.1/24")
	c2 := container(t, l.Hosts[1], "10.2.1.2/24")
	c3 := container(t, l.Hosts[1], "10.2.2.3/24")
	const group = "239.1.1.1:7000"
	same, err := c2.Join("ethwe", group)
	must(t, err)
	defer same.Close()
	other, err := c3.Join("ethwe", group)
	must(t, err)
	defer other.Close()
	eventually(t, soon, func() error {
		must(t, c1.Send("", group, "hello group"))
		_, err := same.Expect("hello group", 200*time.Millisecond)
		return err
	})
	if _, err := other.Expect("hello group", 500*time.Millisecond); err == nil {
		t.Error("a member in another subnet received it")
	}
}
