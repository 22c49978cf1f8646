package host

import (
	"fmt"
	"os"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Port is the Host as the switch sees it: one queue of packets in each direction, with the methods of a TAP's queue. See the
// package comment for who may call what.
type Port struct {
	h *Host
}

// Control runs f on a descriptor that is readable while TryRead has something, which stays open meanwhile. It is for poll(2).
// After the Host has ended the descriptor is readable for good, so that who polls comes to ask TryRead.
func (p *Port) Control(f func(fd uintptr)) error { return p.h.out.control(f) }

// TryRead takes a packet if there is one, writes header and frame to buf and returns their length; 0 and no error mean that
// nothing is there. What does not fit in buf is lost: give it MaxPacket bytes. After the Host has ended it returns an error that is
// os.ErrClosed.
func (p *Port) TryRead(buf []byte) (int, error) {
	for {
		pkt, ok := p.h.out.pop()
		if !ok {
			return 0, fmt.Errorf("read host port: %w", os.ErrClosed)
		}
		if pkt == nil {
			return 0, nil
		}
		n := encode(buf, pkt)
		pkt.DecRef()
		if n == 0 {
			p.h.count.droppedTooBig.Add(1)
			continue
		}
		p.h.count.sentPackets.Add(1)
		p.h.count.sentBytes.Add(uint64(n - HeaderLen))
		return n, nil
	}
}

// encode writes a packet of the stack to buf, and returns its length; 0 if it does not fit.
func encode(buf []byte, pkt *stack.PacketBuffer) int {
	if len(buf) < HeaderLen+pkt.Size() {
		return 0
	}
	(*vnet)(buf).put(pkt.GSOOptions, pkt.HeaderSize(), pkt.Data().Size())
	n := HeaderLen
	views, skip := pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		n += copy(buf[n:], b[skip:])
		skip = 0
	}
	return n
}

// WriteV gives the host the concatenation of parts as one packet. The first part holds at least the header. The parts are not kept
// and not changed. A packet that is not for the host or makes no sense is a counted drop (Stats), not an error. After the
// Host has ended it returns os.ErrClosed.
func (p *Port) WriteV(parts [][]byte) error {
	h := p.h
	if h.ended.Load() {
		return fmt.Errorf("write host port: %w", os.ErrClosed)
	}
	total := 0
	for _, b := range parts {
		total += len(b)
	}
	if len(parts) == 0 || len(parts[0]) < HeaderLen || total < HeaderLen+etherLen || total > MaxPacket {
		h.count.droppedMalformed.Add(1)
		return nil
	}
	head := vnet(parts[0][:HeaderLen])
	view := buffer.NewView(total - HeaderLen)
	_, _ = view.Write(parts[0][HeaderLen:])
	for _, b := range parts[1:] {
		_, _ = view.Write(b)
	}
	h.receive(head, view)
	return nil
}

// receive takes a whole frame, and owns view.
func (h *Host) receive(head vnet, view *buffer.View) {
	frame := view.AsSlice()
	to, kind := h.classify(frame)
	if to == toNobody {
		view.Release()
		return
	}
	h.count.receivedPackets.Add(1)
	h.count.receivedBytes.Add(uint64(len(frame)))
	switch head.gsoType() {
	case gsoNone, gsoTCP4, gsoTCP6:
		h.pass(to, kind, view)
		return
	case gsoUDP:
		if !datagrams(frame, head.gsoSize(), func(d []byte) { h.pass(to, kind, buffer.NewViewWithData(d)) }) {
			h.count.droppedMalformed.Add(1)
		}
	default:
		h.count.droppedMalformed.Add(1)
	}
	view.Release()
}

// pass gives a frame to the one it is for, and owns view.
func (h *Host) pass(to target, kind tcpip.PacketType, view *buffer.View) {
	if to == toEgress {
		e := h.egress.Load()
		if e == nil || !e.accept(view.AsSlice()) {
			view.Release()
			return
		}
		inject(&e.link, kind, view)
		return
	}
	inject(&h.link, kind, view)
}

func inject(l *link, kind tcpip.PacketType, view *buffer.View) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(view)})
	l.deliver(pkt, kind)
	pkt.DecRef()
}

// sendFrame queues a frame that we have made ourselves, complete as it is.
func (h *Host) sendFrame(frame []byte) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	defer pkt.DecRef()
	if !h.out.push(pkt) {
		h.count.droppedQueueFull.Add(1)
	}
}

// linkAddress is a MAC as netstack has it.
func linkAddress(mac []byte) tcpip.LinkAddress { return tcpip.LinkAddress(mac) }

// etherHeader writes an Ethernet header.
func etherHeader(b []byte, to, from tcpip.LinkAddress, typ tcpip.NetworkProtocolNumber) {
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: from, DstAddr: to, Type: typ})
}
