package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"weave/netns-tests/lab"
)

const (
	limit  = 20 * time.Second
	group  = "239.7.7.7:7000"
	marker = "the-secret-that-nobody-on-the-wire-may-read"
)

// demo plays one scene after the other.
//
//	c1  c2        c3  c4        c5  c6      10.32.0.1 … 10.32.0.6
//	 |   |         |   |         |   |
//	host1 ═══════ host2 ═══════ host3       ═ weave; also host1 ═ host3
//	 |             |             |
//	 └────────── underlay ───────┘          10.99.0.1 … 10.99.0.3
type demo struct {
	began time.Time
	out   io.Writer
	lab   *lab.Lab
	hosts []host
	conts []container
}

// say shows progress, with the seconds since the start.
func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "[%5.1fs] %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

// show prints a command and what it said.
func (d *demo) show(h host, r lab.Result) {
	fmt.Fprintf(d.out, "         host%d$ %s\n", h.Index, strings.Join(append([]string{"weave"}, r.Args[1:]...), " "))
	for line := range strings.Lines(r.Stdout) {
		fmt.Fprintf(d.out, "           %s\n", strings.TrimRight(line, "\n"))
	}
}

// weave runs a command that must succeed.
func (d *demo) weave(h host, args ...string) error {
	r := h.weave(args...)
	d.show(h, r)
	if r.RC != 0 || r.Err != nil {
		return fmt.Errorf("on host%d: %v\n%s", h.Index, r, tail(h.log()))
	}
	return nil
}

func tail(log string) string { return log[max(0, len(log)-2000):] }

func name(container int) string { return fmt.Sprintf("c%d.weave.local", container) }

func ip(container int) string { return fmt.Sprintf("10.32.0.%d", container) }

func (d *demo) play() error {
	var err error
	d.say("three hosts, each a network namespace with a link to a common underlay")
	if d.lab, err = lab.New(lab.Config{Hosts: 3}); err != nil {
		return err
	}
	if d.hosts, err = hosts(d.lab); err != nil {
		return err
	}
	for _, scene := range []func() error{
		d.launch, d.attach, d.connections, d.ping, d.names, d.multicast, d.transfer, d.secrecy, d.status,
	} {
		if err := scene(); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) launch() error {
	who := "launched by root"
	if lab.Ordinary() {
		who = "launched by an ordinary user without any rights"
	}
	d.say("weave on each of them, %s; host2 and host3 know only host1's address", who)
	for _, h := range d.hosts {
		args := []string{"launch", "--password", "demo"}
		if h.Index > 1 {
			args = append(args, d.hosts[0].address())
		}
		if err := d.weave(h, args...); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) attach() error {
	d.say("six containers, two on each host")
	for i := range 6 {
		h := d.hosts[i/2]
		c, err := h.container()
		if err != nil {
			return err
		}
		d.conts = append(d.conts, c)
		if err := d.weave(h, "attach", ip(i+1)+"/12", "--name", name(i+1), c.target); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) connections() error {
	d.say("all hosts have found each other")
	for _, h := range d.hosts {
		if err := lab.Eventually(limit, func() error {
			r := h.weave("status", "connections")
			if n := strings.Count(r.Stdout, " established "); n != 2 {
				return fmt.Errorf("host%d has %d of 2 connections: %v", h.Index, n, r)
			}
			return nil
		}); err != nil {
			return err
		}
		if err := d.weave(h, "status", "connections"); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) ping() error {
	d.say("ping from c1 to every other container")
	for i := 2; i <= 6; i++ {
		var took time.Duration
		if err := lab.Eventually(limit, func() (err error) {
			took, err = d.conts[0].Ping(ip(i), 56, time.Second)
			return err
		}); err != nil {
			return err
		}
		// once more: the first had to ask for the address first
		if again, err := d.conts[0].Ping(ip(i), 56, time.Second); err == nil {
			took = again
		}
		fmt.Fprintf(d.out, "           %s on host%d: %v\n", ip(i), d.conts[i-1].on.Index, took.Round(time.Microsecond))
	}
	return nil
}

func (d *demo) names() error {
	d.say("c1 looks the others up by name")
	for i := 2; i <= 6; i++ {
		if err := lab.Eventually(limit, func() error {
			got, err := d.conts[0].lookup(name(i))
			if err == nil && !slices.Contains(got, ip(i)) {
				err = fmt.Errorf("%s is %v", name(i), got)
			}
			return err
		}); err != nil {
			return err
		}
		fmt.Fprintf(d.out, "           %s is %s\n", name(i), ip(i))
	}
	return nil
}

// status shows what the first host knows.
func (d *demo) status() error {
	d.say("what host1 says of itself")
	return d.weave(d.hosts[0], "status")
}

func (d *demo) multicast() error {
	d.say("c1 sends one datagram to the group %s; c2 to c6 are members", group)
	boxes := make([]*lab.Inbox, 0, 5)
	for _, c := range d.conts[1:] {
		in, err := c.Join("ethwe", group)
		if err != nil {
			return err
		}
		defer in.Close()
		boxes = append(boxes, in)
	}
	const text = "hello, group"
	if err := d.conts[0].Send("ethwe", group, text); err != nil {
		return err
	}
	for i, in := range boxes {
		from, err := in.Expect(text, limit)
		if err != nil {
			return fmt.Errorf("c%d: %w", i+2, err)
		}
		fmt.Fprintf(d.out, "           c%d on host%d heard %q from %v\n", i+2, d.conts[i+1].on.Index, text, from)
	}
	return nil
}

func (d *demo) transfer() error {
	const size = 1 << 30
	d.say("one TCP connection from c1 (host1) to c3 (host2), %d MiB, checked by SHA-256", size>>20)
	done, err := lab.Transfer(d.conts[0].NS, d.conts[2].NS, ip(3)+":5001", size, time.Minute)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "           %.1f s, %.2f Gb/s, encrypted, both hosts on this machine\n", done.Took.Seconds(), done.Gbps())
	return nil
}

// secrecy sends a marker and looks for it on every link of the underlay, and,
// to show that it would have been found, in the receiving container.
func (d *demo) secrecy() error {
	d.say("what the wire shows: c1 sends c5 a marker, sniffers listen on the underlay and in c5")
	wire, err := d.lab.Under.Sniff("", marker)
	if err != nil {
		return err
	}
	control, err := d.conts[4].Sniff("ethwe", marker)
	if err != nil {
		return err
	}
	echo, err := d.conts[4].EchoUDP(ip(5) + ":7")
	if err != nil {
		return err
	}
	defer echo.Close()
	for range 100 {
		if err := d.conts[0].AskUDP(ip(5)+":7", bytes.Repeat([]byte(marker+" "), 20), limit); err != nil {
			return err
		}
	}
	inside, outside := control.Stop(), wire.Stop()
	fmt.Fprintf(d.out, "           in c5:   %4d frames seen, %4d with the marker\n", inside.Frames, inside.Marked)
	fmt.Fprintf(d.out, "           on wire: %4d frames seen, %4d with the marker\n", outside.Frames, outside.Marked)
	switch {
	case outside.Marked > 0:
		return fmt.Errorf("the marker is on the wire: %q", outside.Sample)
	case inside.Marked < 100 || outside.Frames < 100:
		return errors.New("the sniffers saw too little to prove anything")
	}
	return nil
}
