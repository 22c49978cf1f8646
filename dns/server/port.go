package server

import (
	"net"
	"net/netip"
)

// port is a packet socket. With a UDP socket of the host nothing is allocated
// per packet, and an answer leaves from the address that was asked.
type port struct {
	conn net.PacketConn
	udp  *net.UDPConn
	oob  []byte // room for the address that was asked; nil: there is only one
}

// sender is where a packet came from. It is valid until the next read.
type sender struct {
	addr netip.AddrPort
	any  net.Addr // of sockets that are not UDP ones
	oob  []byte
}

func newPort(c net.PacketConn) *port {
	p := &port{conn: c}
	p.udp, _ = c.(*net.UDPConn)
	if p.udp != nil {
		if at, ok := p.udp.LocalAddr().(*net.UDPAddr); ok && at.IP.IsUnspecified() && wantDestination(p.udp) == nil {
			p.oob = make([]byte, 128)
		}
	}
	return p
}

func (p *port) read(buf []byte) (int, sender, error) {
	if p.udp == nil {
		n, from, err := p.conn.ReadFrom(buf)
		return n, sender{any: from}, err
	}
	if p.oob == nil {
		n, from, err := p.udp.ReadFromUDPAddrPort(buf)
		return n, sender{addr: from}, err
	}
	n, oobn, _, from, err := p.udp.ReadMsgUDPAddrPort(buf, p.oob)
	return n, sender{addr: from, oob: p.oob[:oobn]}, err
}

// write answers; a packet that cannot be sent is lost like any other.
func (p *port) write(msg []byte, to sender) {
	switch {
	case p.udp == nil:
		_, _ = p.conn.WriteTo(msg, to.any)
	case len(to.oob) > 0:
		_, _, _ = p.udp.WriteMsgUDPAddrPort(msg, to.oob, to.addr)
	default:
		_, _ = p.udp.WriteToUDPAddrPort(msg, to.addr)
	}
}

// keep is a copy that stays valid.
func (s sender) keep() sender {
	s.oob = append([]byte(nil), s.oob...)
	return s
}

func (s sender) ip() netip.Addr {
	if s.any != nil {
		if ap, err := netip.ParseAddrPort(s.any.String()); err == nil {
			return ap.Addr().Unmap()
		}
	}
	return s.addr.Addr().Unmap()
}
