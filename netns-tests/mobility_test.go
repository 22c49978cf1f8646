package netnstests

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// answersAs serves UDP on an address by a word.
func answersAs(t *testing.T, n *lab.NS, addr, word string) {
	t.Helper()
	var pc net.PacketConn
	must(t, n.Do(func() (err error) {
		pc, err = net.ListenPacket("udp", addr)
		return err
	}))
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 100)
		for {
			_, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo([]byte(word), from)
		}
	}()
}

// A container's address moves from host to host and back, while somebody keeps asking it: with the container that has it, the
// address, its IPv6 twin and its name are there at once, for those who knew where they had been.
//
//	asker (host3), neighbour (host1) ── 10.32.0.99 on host1, host2, host1, …
func TestAddressMoves(t *testing.T) {
	l := newLab(t, lab.Config{Hosts: 3})
	h := l.Hosts
	launch(t, h[0])
	launch(t, h[1], h[0].IP)
	launch(t, h[2], h[0].IP)
	waitMesh(t, h...)
	asker, _ := attached(t, h[2])
	neighbour, _ := attached(t, h[0])
	const addr = "10.32.0.99"
	homes := make([]*lab.Container, 2)
	for i := range homes {
		var err error
		homes[i], err = h[i].NewContainer()
		must(t, err)
		answersAs(t, homes[i].NS, ":7", fmt.Sprint("home ", i))
	}
	ask := func(from *lab.Container, to, want string) error {
		c, err := from.DialUDP(net.JoinHostPort(to, "7"))
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := c.Write([]byte("who?")); err != nil {
			return err
		}
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		if err == nil && string(buf[:n]) != want {
			err = fmt.Errorf("%s answers %q, want %q", to, buf[:n], want)
		}
		return err
	}
	six := ""
	for move := range 6 {
		i := move % 2
		home, word := homes[i], fmt.Sprint("home ", i)
		run(t, h[i], "attach", addr+"/12", "--name", "mover", home.Name)
		if got := v6Of(t, home, addr); six != "" && got != six {
			t.Errorf("its IPv6 address becomes %s, was %s", got, six)
		} else {
			six = got
		}
		began := time.Now()
		for _, from := range []*lab.Container{asker, neighbour} {
			for _, to := range []string{addr, six} {
				eventually(t, settle, func() error { return ask(from, to, word) })
			}
		}
		t.Logf("move %d: all four know after %v", move, time.Since(began).Round(time.Millisecond))
		eventually(t, settle, func() error {
			if got := strings.Fields(h[2].Weave("dns-lookup", "mover").Stdout); len(got) != 1 || got[0] != addr {
				return fmt.Errorf("mover is %v", got)
			}
			return nil
		})
		if move == 5 {
			break
		}
		run(t, h[i], "detach", addr+"/12", home.Name)
	}
	if r := h[0].Weave("attach", addr+"/12", homes[0].Name); r.RC == 0 {
		t.Errorf("one address on two hosts: %v", r)
	}
}
