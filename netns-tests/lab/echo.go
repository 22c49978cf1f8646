package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// EchoUDP answers every datagram sent to addr ("IP:port" or "[IP]:port") with
// itself until the returned closer is closed.
func (n *NS) EchoUDP(addr string) (io.Closer, error) {
	var pc net.PacketConn
	err := n.Do(func() (err error) {
		pc, err = net.ListenPacket("udp", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		buf := make([]byte, 65536)
		for {
			size, from, err := pc.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = pc.WriteTo(buf[:size], from)
			}
		}
	}()
	return pc, nil
}

// AskUDP sends payload to addr from the namespace and waits for the same bytes
// to come back.
func (n *NS) AskUDP(addr string, payload []byte, limit time.Duration) error {
	return n.ask("udp", addr, payload, limit)
}

// EchoTCP serves connections to addr by sending back what arrives.
func (n *NS) EchoTCP(addr string) (io.Closer, error) {
	var l net.Listener
	err := n.Do(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l, nil
}

// AskTCP connects to addr, sends payload and waits for it to come back.
func (n *NS) AskTCP(addr string, payload []byte, limit time.Duration) error {
	return n.ask("tcp", addr, payload, limit)
}

func (n *NS) ask(network, addr string, payload []byte, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	var c net.Conn
	err := n.Do(func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(deadline)
	go func() { _, _ = c.Write(payload) }()
	got := make([]byte, len(payload))
	if network == "udp" {
		var size int
		if size, err = c.Read(got); err == nil && size != len(payload) {
			err = fmt.Errorf("%d bytes came back", size)
		}
	} else {
		_, err = io.ReadFull(c, got)
	}
	if err != nil {
		return fmt.Errorf("%s echo of %d bytes by %s: %w", network, len(payload), addr, err)
	}
	if string(got) != string(payload) {
		return fmt.Errorf("%s echo by %s: other bytes came back", network, addr)
	}
	return nil
}

// DialUDP makes a UDP socket inside the namespace that talks with addr.
func (n *NS) DialUDP(addr string) (conn net.Conn, err error) {
	failed := n.Do(func() error {
		conn, err = net.Dial("udp", addr)
		return nil
	})
	if failed != nil {
		return nil, failed
	}
	return conn, err
}

// Dial opens a TCP connection from the namespace.
func (n *NS) Dial(addr string, limit time.Duration) (net.Conn, error) {
	var c net.Conn
	err := n.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", addr, limit)
		return err
	})
	return c, err
}
