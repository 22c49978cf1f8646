package lab

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

func noContext() context.Context { return context.Background() }

// Inbox receives datagrams.
type Inbox struct{ pc net.PacketConn }

// Join makes a socket in the namespace that is a member of a multicast group
// on dev; group is "IP:port" or "[IP]:port".
func (n *NS) Join(dev, group string) (*Inbox, error) {
	var in *Inbox
	err := n.Do(func() error {
		ifi, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		addr, err := net.ResolveUDPAddr("udp", group)
		if err != nil {
			return err
		}
		pc, err := net.ListenMulticastUDP("udp", ifi, addr)
		in = &Inbox{pc}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("join %s on %s: %w", group, dev, err)
	}
	return in, nil
}

// Listen makes a socket that receives datagrams, broadcasts included, sent to
// addr (":port" or "IP:port").
func (n *NS) Listen(addr string) (*Inbox, error) {
	in := &Inbox{}
	err := n.Do(func() (err error) {
		in.pc, err = net.ListenPacket("udp", addr)
		return err
	})
	return in, err
}

// Expect waits for a datagram with exactly this text and returns its sender.
func (in *Inbox) Expect(text string, limit time.Duration) (net.Addr, error) {
	_ = in.pc.SetReadDeadline(time.Now().Add(limit))
	buf := make([]byte, 65536)
	for {
		size, from, err := in.pc.ReadFrom(buf)
		if err != nil {
			return nil, fmt.Errorf("waiting for %q: %w", text, err)
		}
		if string(buf[:size]) == text {
			return from, nil
		}
	}
}

// Close leaves the group.
func (in *Inbox) Close() error { return in.pc.Close() }

// Send sends one datagram from the namespace to addr; to a multicast group it
// leaves by dev, which may be "" otherwise.
func (n *NS) Send(dev, addr, text string) error {
	return n.Do(func() error {
		to, err := net.ResolveUDPAddr("udp", addr)
		if err != nil {
			return err
		}
		network, local := "udp6", "[::]:0"
		if to.IP.To4() != nil {
			network, local = "udp4", "0.0.0.0:0"
		}
		pc, err := net.ListenPacket(network, local)
		if err != nil {
			return err
		}
		defer pc.Close()
		if dev != "" && to.IP.IsMulticast() {
			if err := leaveBy(pc.(*net.UDPConn), dev, network == "udp4"); err != nil {
				return err
			}
		}
		_, err = pc.WriteTo([]byte(text), to)
		return err
	})
}

// leaveBy names the interface by which a socket's multicast leaves.
func leaveBy(c *net.UDPConn, dev string, v4 bool) error {
	ifi, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		if v4 {
			set = unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(ifi.Index)})
		} else {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, ifi.Index)
		}
	})
	if err != nil {
		return err
	}
	return set
}
