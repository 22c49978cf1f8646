package link

import (
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockaddr is room for a kernel socket address of either family. The IPv6 form
// is the larger; the IPv4 form is laid over its beginning (ip(7), ipv6(7)):
//
//	 0      2      4              8             24         28
//	+------+------+--------------+--------------+----------+
//	|family| port | IPv4 address | zero         |            IPv4, 16 bytes
//	+------+------+--------------+--------------+----------+
//	|family| port | flow info    | IPv6 address | scope id |  IPv6, 28 bytes
//	+------+------+--------------+--------------+----------+
//
// The port is in network byte order, the family in the host's.
type sockaddr struct {
	raw unix.RawSockaddrInet6
}

// zones translates between IPv6 scope ids and netip zones. Only link-local
// addresses need it, so both maps are normally empty. It belongs to one
// goroutine.
type zones struct {
	names   map[uint32]string
	indices map[string]uint32
}

// put writes to into the address and returns its length in bytes, or 0 if to
// is not of the family wanted.
func (a *sockaddr) put(to netip.AddrPort, v6 bool, z *zones) uint32 {
	addr := to.Addr().Unmap()
	if !addr.IsValid() || addr.Is6() != v6 {
		return 0
	}
	if !v6 {
		p := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		p.Family = unix.AF_INET
		putPort(&p.Port, to.Port())
		p.Addr = addr.As4()
		return unix.SizeofSockaddrInet4
	}
	a.raw.Family = unix.AF_INET6
	putPort(&a.raw.Port, to.Port())
	a.raw.Flowinfo = 0
	a.raw.Addr = addr.As16()
	a.raw.Scope_id = 0
	if addr.Zone() != "" {
		a.raw.Scope_id = z.index(addr.Zone())
	}
	return unix.SizeofSockaddrInet6
}

// addrPort reads the address the kernel wrote. The zero AddrPort means that
// the family is neither IPv4 nor IPv6.
func (a *sockaddr) addrPort(z *zones) netip.AddrPort {
	switch a.raw.Family {
	case unix.AF_INET:
		p := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		return netip.AddrPortFrom(netip.AddrFrom4(p.Addr), getPort(&p.Port))
	case unix.AF_INET6:
		addr := netip.AddrFrom16(a.raw.Addr)
		if a.raw.Scope_id != 0 && addr.IsLinkLocalUnicast() {
			addr = addr.WithZone(z.name(a.raw.Scope_id))
		}
		return netip.AddrPortFrom(addr.Unmap(), getPort(&a.raw.Port))
	}
	return netip.AddrPort{}
}

func putPort(field *uint16, port uint16) {
	b := (*[2]byte)(unsafe.Pointer(field))
	b[0], b[1] = byte(port>>8), byte(port)
}

func getPort(field *uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(field))
	return uint16(b[0])<<8 | uint16(b[1])
}

// name gives the zone of a scope id: the number itself, which stays right when
// an interface is renamed.
func (z *zones) name(index uint32) string {
	if name, ok := z.names[index]; ok {
		return name
	}
	if z.names == nil {
		z.names = make(map[uint32]string)
	}
	name := strconv.FormatUint(uint64(index), 10)
	z.names[index] = name
	return name
}

// index gives the scope id of a zone, 0 if there is no such interface.
func (z *zones) index(zone string) uint32 {
	if index, ok := z.indices[zone]; ok {
		return index
	}
	index := uint32(0)
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		index = uint32(n)
	} else if ifi, err := net.InterfaceByName(zone); err == nil {
		index = uint32(ifi.Index)
	} else {
		return 0 // not remembered: the interface may appear later
	}
	if z.indices == nil {
		z.indices = make(map[string]uint32)
	}
	z.indices[zone] = index
	return index
}
