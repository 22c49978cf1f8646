package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ring: slots of one frame each. 128 MB hold 10 ms of 50 Gb/s of full
// frames, or of 6 million small ones per second.
const (
	slotSize  = 2048 // a frame of 1,518 bytes behind the kernel's header
	blockSize = 1 << 20
	blocks    = 128
	slots     = blocks * blockSize / slotSize
)

// port is one interface: a packet socket and its ring of arriving frames.
type port struct {
	fd   int
	ring []byte
	head int // the slot of the oldest frame not yet released
	msgs [batchSize]mmsghdr
	iovs [batchSize]unix.Iovec
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// frame is one that arrived; its bytes are the ring's.
type frame struct {
	arrived time.Time
	bytes   []byte
}

func openPort(name string) (*port, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	p := &port{fd: fd}
	req := unix.TpacketReq{Block_size: blockSize, Block_nr: blocks, Frame_size: slotSize, Frame_nr: slots}
	mreq := unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_PROMISC}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1),
		unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq),
		unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req))
	if err != nil {
		return nil, err
	}
	if p.ring, err = unix.Mmap(fd, 0, blocks*blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map ring: %w", err)
	}
	all := unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}), Ifindex: ifi.Index}
	return p, unix.Bind(fd, &all)
}

func (p *port) slot(i int) *unix.Tpacket2Hdr {
	return (*unix.Tpacket2Hdr)(unsafe.Pointer(&p.ring[(p.head+i)%slots*slotSize]))
}

// peek looks at the frame that comes i after the oldest.
func (p *port) peek(i int) (frame, bool) {
	h := p.slot(i)
	if atomic.LoadUint32(&h.Status)&unix.TP_STATUS_USER == 0 {
		return frame{}, false
	}
	start := (p.head+i)%slots*slotSize + int(h.Mac)
	return frame{
		arrived: time.Unix(int64(h.Sec), int64(h.Nsec)),
		bytes:   p.ring[start : start+int(h.Snaplen)],
	}, true
}

// release gives the n oldest slots back to the kernel.
func (p *port) release(n int) {
	for i := range n {
		atomic.StoreUint32(&p.slot(i).Status, unix.TP_STATUS_KERNEL)
	}
	p.head = (p.head + n) % slots
}

// wait returns when a frame has arrived.
func (p *port) wait() error {
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, -1)
	if err == unix.EINTR {
		return nil
	}
	return err
}

// send sends frames in one system call or several; one the kernel refuses is
// lost.
func (p *port) send(frames [][]byte) error {
	for i, f := range frames {
		p.iovs[i] = unix.Iovec{Base: &f[0], Len: uint64(len(f))}
		p.msgs[i].hdr = unix.Msghdr{Iov: &p.iovs[i], Iovlen: 1}
	}
	for done := 0; done < len(frames); {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&p.msgs[done])), uintptr(len(frames)-done), 0, 0, 0)
		switch errno {
		case 0:
			done += int(n)
		case unix.EINTR:
		case unix.ENOBUFS, unix.EMSGSIZE, unix.EAGAIN:
			done++
		default:
			return fmt.Errorf("send: %w", errno)
		}
	}
	return nil
}
