package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Tap sees and sends whole Ethernet frames on one link, or sees those of all
// links of a namespace.
type Tap struct {
	fd  int
	f   *os.File
	dev string
}

// OpenTap opens a packet socket on dev; dev "" means every link, receive only.
func (n *NS) OpenTap(dev string) (*Tap, error) {
	t := &Tap{dev: dev}
	err := n.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		t.fd = fd
		return t.bind()
	})
	if err != nil {
		return nil, fmt.Errorf("packet socket on %q in %s: %w", dev, n.Name, err)
	}
	t.f = os.NewFile(uintptr(t.fd), "packet:"+dev)
	return t, nil
}

func (t *Tap) bind() error {
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL)}
	if t.dev != "" {
		ifi, err := net.InterfaceByName(t.dev)
		if err != nil {
			return err
		}
		to.Ifindex = ifi.Index
		mreq := unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(t.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
			return err
		}
	}
	_ = unix.SetsockoptInt(t.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
	_ = unix.SetsockoptInt(t.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	if err := unix.SetsockoptInt(t.fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return err
	}
	return unix.Bind(t.fd, to)
}

func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// Send puts one frame, from destination address to end of payload, on the link.
func (t *Tap) Send(frame []byte) error {
	_, err := t.f.Write(frame)
	return err
}

// Next returns the next frame the link sent or received. Where the kernel has
// taken a VLAN tag out of the frame, it is put back.
func (t *Tap) Next(deadline time.Time) ([]byte, error) {
	if err := t.f.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	raw, err := t.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	buf, oob := make([]byte, 1<<17), make([]byte, 256)
	var size, oobSize int
	var rerr error
	err = raw.Read(func(fd uintptr) bool {
		size, oobSize, _, _, rerr = unix.Recvmsg(int(fd), buf, oob, 0)
		return !errors.Is(rerr, unix.EAGAIN)
	})
	if err = errors.Join(err, rerr); err != nil {
		return nil, err
	}
	return retag(buf[:size], oob[:oobSize]), nil
}

// retag puts a VLAN tag that the kernel keeps beside the frame back into it.
func retag(frame, oob []byte) []byte {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(frame) < 12 {
		return frame
	}
	for _, m := range msgs {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < int(unsafe.Sizeof(unix.TpacketAuxdata{})) {
			continue
		}
		aux := *(*unix.TpacketAuxdata)(unsafe.Pointer(&m.Data[0]))
		if aux.Status&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		tag := binary.BigEndian.AppendUint16(nil, aux.Vlan_tpid)
		tag = binary.BigEndian.AppendUint16(tag, aux.Vlan_tci)
		return append(append(append([]byte{}, frame[:12]...), tag...), frame[12:]...)
	}
	return frame
}

// Expect waits for a frame that match accepts.
func (t *Tap) Expect(limit time.Duration, match func(frame []byte) bool) ([]byte, error) {
	deadline := time.Now().Add(limit)
	for seen := 0; ; seen++ {
		frame, err := t.Next(deadline)
		if err != nil {
			return nil, fmt.Errorf("no such frame on %q among %d: %w", t.dev, seen, err)
		}
		if match(frame) {
			return frame, nil
		}
	}
}

// Close ends it.
func (t *Tap) Close() error { return t.f.Close() }

// Frame lays out an Ethernet frame: destination, source, then ethertype and
// payload as they come.
func Frame(dst, src net.HardwareAddr, ethertype uint16, payload []byte) []byte {
	f := append(append([]byte{}, dst...), src...)
	f = binary.BigEndian.AppendUint16(f, ethertype)
	return append(f, payload...)
}

// Broadcast is the Ethernet broadcast address.
func Broadcast() net.HardwareAddr { return net.HardwareAddr{255, 255, 255, 255, 255, 255} }

// GratuitousARP is the request by which a station announces that ip is at mac
// (RFC 826, RFC 5227).
func GratuitousARP(mac net.HardwareAddr, ip net.IP) []byte {
	body := []byte{0, 1, 8, 0, 6, 4, 0, 1} // Ethernet, IPv4, lengths, request
	body = append(append(body, mac...), ip.To4()...)
	body = append(append(body, 0, 0, 0, 0, 0, 0), ip.To4()...)
	return Frame(Broadcast(), mac, 0x0806, body)
}
