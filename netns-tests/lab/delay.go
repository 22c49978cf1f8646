package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// delayedFrames are held at most; more are dropped, as a full router would.
const delayedFrames = 4096

// Delay puts a wire between the host and the underlay bridge that holds each
// frame for a while, in each direction, until the lab is closed. It is for tests
// of what latency does, not for measuring: bench/relay carries much more.
//
//	eth0 ═══ hN ── wire ── dN ═══ eN (a port of the bridge)
func (h *Host) Delay(d time.Duration) error {
	under, port := h.lab.Under, h.port()
	near, far := fmt.Sprintf("d%d", h.Index), fmt.Sprintf("e%d", h.Index)
	whole := map[string]bool{"tx-checksum-ip-generic": false, "tx-scatter-gather": false}
	err := errors.Join(
		under.WithLink(port, func(nl *netlink.Handle, l netlink.Link) error { return nl.LinkSetNoMaster(l) }),
		Veth(under, near, under, far, h.lab.cfg.MTU), Enslave(under, far, "br0"),
		PlainNIC(h.NS, "eth0"), SetFeatures(h.NS, "eth0", whole), SetFeatures(under, port, map[string]bool{"rx-gro": false}),
		PlainNIC(under, far), SetFeatures(under, far, whole), SetFeatures(under, near, map[string]bool{"rx-gro": false}))
	if err != nil {
		return err
	}
	var a, b *os.File
	err = under.Do(func() (err error) {
		if a, err = packetSocket(port); err != nil {
			return err
		}
		b, err = packetSocket(near)
		return err
	})
	if err != nil {
		return fmt.Errorf("delay: %w", err)
	}
	h.lab.wires = append(h.lab.wires, a, b)
	go hold(a, b, d)
	go hold(b, a, d)
	return nil
}

// packetSocket opens a socket that sees what arrives at a link, and sends there.
func packetSocket(dev string) (*os.File, error) {
	ifi, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	mreq := unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_PROMISC}
	all := unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}), Ifindex: ifi.Index}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq),
		unix.Bind(fd, &all))
	return os.NewFile(uintptr(fd), dev), err
}

// hold carries frames in one direction until a socket is closed.
func hold(from, to *os.File, d time.Duration) {
	type frame struct {
		due   time.Time
		bytes []byte
	}
	queue := make(chan frame, delayedFrames)
	go func() {
		for f := range queue {
			time.Sleep(time.Until(f.due))
			_, _ = to.Write(f.bytes) // one the kernel refuses is lost
		}
	}()
	defer close(queue)
	buf := make([]byte, 65536)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case queue <- frame{time.Now().Add(d), append([]byte(nil), buf[:n]...)}:
		default:
		}
	}
}
