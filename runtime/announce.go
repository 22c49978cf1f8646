package runtime

import (
	"encoding/binary"
	"net/netip"
)

// Announcement is the Ethernet frame by which an interface with mac claims addr: for IPv4 an ARP announcement (RFC 5227,
// section 1.1: a request for the own address), for IPv6 an unsolicited neighbour advertisement with the override flag
// (RFC 4861, sections 4.4 and 7.2.6). Whoever has the address in a cache changes it, and every switch learns the port.
func Announcement(mac MAC, addr netip.Addr) []byte {
	if addr.Is4() {
		return arpAnnouncement(mac, addr.As4())
	}
	return neighbourAdvertisement(mac, addr.As16())
}

// arpAnnouncement:
//
//	 0            6     12     14      16      18   19   20   22           28     32       38     42
//	+------------+------+------+-------+-------+----+----+----+------------+------+--------+------+
//	|ff:…:ff     | mac  | 0806 | hw 1  | 0800  | 6  | 4  | 1  | mac        | addr | zero   | addr |
//	+------------+------+------+-------+-------+----+----+----+------------+------+--------+------+
func arpAnnouncement(mac MAC, addr [4]byte) []byte {
	f := make([]byte, 0, 42)
	f = append(f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	f = append(f, mac[:]...)
	f = append(f, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1)
	f = append(f, mac[:]...)
	f = append(f, addr[:]...)
	f = append(f, 0, 0, 0, 0, 0, 0)
	return append(f, addr[:]...)
}

// neighbourAdvertisement:
//
//	Ethernet to 33:33:00:00:00:01 | IPv6, hop limit 255, addr to ff02::1 |
//	type 136, code 0, checksum, flags (override), target addr | option 2 (target link-layer address), length 1, mac
func neighbourAdvertisement(mac MAC, addr [16]byte) []byte {
	allNodes := [16]byte{0: 0xff, 1: 0x02, 15: 0x01}
	icmp := make([]byte, 0, 32)
	icmp = append(icmp, 136, 0, 0, 0, 0x20, 0, 0, 0)
	icmp = append(icmp, addr[:]...)
	icmp = append(icmp, 2, 1)
	icmp = append(icmp, mac[:]...)
	binary.BigEndian.PutUint16(icmp[2:], icmpv6Sum(addr, allNodes, icmp))

	f := make([]byte, 0, 86)
	f = append(f, 0x33, 0x33, 0, 0, 0, 1)
	f = append(f, mac[:]...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(icmp)), 58, 255)
	f = append(f, addr[:]...)
	f = append(f, allNodes[:]...)
	return append(f, icmp...)
}

// icmpv6Sum is the checksum over pseudo-header and message (RFC 8200, section 8.1).
func icmpv6Sum(src, dst [16]byte, msg []byte) uint16 {
	sum := uint32(len(msg)) + 58
	for _, part := range [][]byte{src[:], dst[:], msg} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
