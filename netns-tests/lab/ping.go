package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ping sends one ICMP (or ICMPv6) echo request with `size` bytes of payload
// and the don't-fragment bit set, and waits for the answer. The address may
// carry a zone ("fe80::1%eth0").
func (n *NS) Ping(addr string, size int, limit time.Duration) (time.Duration, error) {
	return n.ping(addr, size, limit, dontFragment)
}

// PingFragments is Ping without the don't-fragment bit.
func (n *NS) PingFragments(addr string, size int, limit time.Duration) error {
	_, err := n.ping(addr, size, limit, nil)
	return err
}

func (n *NS) ping(addr string, size int, limit time.Duration, control func(string, string, syscall.RawConn) error) (time.Duration, error) {
	dst, err := net.ResolveIPAddr("ip", addr)
	if err != nil {
		return 0, err
	}
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if dst.IP.To4() == nil {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	var pc net.PacketConn
	err = n.Do(func() (err error) {
		lc := net.ListenConfig{Control: control}
		pc, err = lc.ListenPacket(noContext(), network, "")
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ping %s: %w", addr, err)
	}
	defer pc.Close()
	began := time.Now()
	_ = pc.SetDeadline(began.Add(limit))
	msg := echoRequest(request, size)
	if _, err := pc.WriteTo(msg, dst); err != nil {
		return 0, fmt.Errorf("ping %s: %w", addr, err)
	}
	buf := make([]byte, 65536)
	for {
		got, from, err := pc.ReadFrom(buf)
		if err != nil {
			return 0, fmt.Errorf("ping %s, %d bytes: %w", addr, size, err)
		}
		src, _ := from.(*net.IPAddr)
		if got == len(msg) && buf[0] == reply && string(buf[4:got]) == string(msg[4:]) && src.IP.Equal(dst.IP) {
			return time.Since(began), nil
		}
	}
}

// echoRequest lays out an ICMP echo: type, code, checksum, identifier,
// sequence number, payload (RFC 792, RFC 4443). The kernel fills in the
// checksum of ICMPv6.
func echoRequest(kind byte, size int) []byte {
	msg := make([]byte, 8+size)
	msg[0] = kind
	binary.BigEndian.PutUint32(msg[4:], uint32(time.Now().UnixNano())^uint32(os.Getpid()))
	for i := range size {
		msg[8+i] = byte(i)
	}
	binary.BigEndian.PutUint16(msg[2:], internetChecksum(msg))
	return msg
}

// internetChecksum is the ones' complement sum of RFC 1071.
func internetChecksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// dontFragment sets the don't-fragment bit on an IPv4 socket and its like on
// an IPv6 one.
func dontFragment(_, _ string, c syscall.RawConn) error {
	var err error
	ctl := c.Control(func(fd uintptr) {
		e4 := unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		e6 := unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
		if e4 != nil && e6 != nil {
			err = e4
		}
	})
	return errors.Join(ctl, err)
}
