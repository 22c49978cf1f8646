package netlink

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// beatType is the first of IEEE 802's two local experimental EtherTypes (IEEE 802, clause 9.2.3).
const beatType = 0x88b5

// vxlanDF is IFLA_VXLAN_DF, and its value that sets the bit (include/uapi/linux/if_link.h).
const (
	vxlanDF    = 29
	vxlanDFSet = 1
)

// vxlanSpec is a VXLAN device as it is to be.
type vxlanSpec struct {
	name    string
	port    int        // UDP
	v6      bool       // the underlay's family
	local   netip.Addr // what it sends from; invalid: whatever leads to the peer
	sockets *space     // where its socket is
	sealed  bool       // what carries it protects it already
}

// vxlanOf is the device of a tunnel; false: the host is to have none.
func (h *Host) vxlanOf(t Tunnel, name string, cfg FastConfig) (vxlanSpec, bool) {
	spec := vxlanSpec{name: name, port: cfg.Port, v6: t == TunnelIPv6, local: cfg.Local, sockets: h.space}
	if t != TunnelWireGuard {
		return spec, !cfg.Local.IsValid() || cfg.Local.Is6() == spec.v6
	}
	if cfg.WireGuard == nil {
		return spec, false
	}
	spec.local, spec.sockets, spec.sealed = cfg.WireGuard.Addr(), cfg.WireGuard.space, true
	return spec, true
}

// create makes the device in a namespace, from the thread's, in which its socket is. Outer datagrams must not be cut: what does not
// fit has to be told to the sender (the kernel does, net/ipv4/ip_tunnel_core.c), and a path that takes no full frames must not look
// good.
func (s vxlanSpec) create(mtu int, in *space) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(s.name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
	if in != s.sockets {
		req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(in.file.Fd()))))
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("vxlan"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_VXLAN_ID, nl.Uint32Attr(vni))
	data.AddRtAttr(nl.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, uint16(s.port)))
	data.AddRtAttr(nl.IFLA_VXLAN_LEARNING, nl.Uint8Attr(1))
	if !s.sealed {
		data.AddRtAttr(nl.IFLA_VXLAN_UDP_CSUM, nl.Uint8Attr(1))
	}
	data.AddRtAttr(vxlanDF, nl.Uint8Attr(vxlanDFSet))
	switch {
	case s.v6 && s.local.IsValid():
		data.AddRtAttr(nl.IFLA_VXLAN_LOCAL6, s.local.AsSlice())
	case s.v6:
		data.AddRtAttr(nl.IFLA_VXLAN_LOCAL6, net.IPv6unspecified)
	case s.local.IsValid():
		data.AddRtAttr(nl.IFLA_VXLAN_LOCAL, s.local.AsSlice())
	}
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// portFlag is an attribute of a bridge's port.
type portFlag struct {
	attr  int
	value byte
}

// routerAlways is MDB_RTR_TYPE_PERM: a port that gets all multicast. A peer may come from one uplink to another between
// two queries of its members.
const routerAlways = 2

var (
	// uplinkPort is how the TAP stands beside tunnels.
	uplinkPort = []portFlag{{nl.IFLA_BRPORT_ISOLATED, 1}, {nl.IFLA_BRPORT_MULTICAST_ROUTER, routerAlways}}
	// tunnelPort is how a tunnel does: what the bridge does not know is not its business.
	tunnelPort = []portFlag{
		{nl.IFLA_BRPORT_ISOLATED, 1},
		{nl.IFLA_BRPORT_MULTICAST_ROUTER, routerAlways},
		{nl.IFLA_BRPORT_UNICAST_FLOOD, 0},
		{nl.IFLA_BRPORT_LEARNING, 1},
	}
)

// broadcastPort lets a port have what is for everybody, or not.
func broadcastPort(on bool) []portFlag {
	value, router := byte(0), byte(0)
	if on {
		value, router = 1, routerAlways
	}
	return []portFlag{
		{nl.IFLA_BRPORT_BCAST_FLOOD, value},
		{nl.IFLA_BRPORT_MCAST_FLOOD, value},
		{nl.IFLA_BRPORT_MULTICAST_ROUTER, router},
	}
}

// setPort changes a port of a bridge in the thread's namespace. Kernels without multicast snooping know nothing of routers.
func setPort(index int, flags []portFlag) error {
	set := func(flags []portFlag) error {
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
		msg.Index = int32(index)
		req.AddData(msg)
		info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
		for _, f := range flags {
			info.AddRtAttr(f.attr, []byte{f.value})
		}
		req.AddData(info)
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		return err
	}
	var must []portFlag
	for _, f := range flags {
		if f.attr == nl.IFLA_BRPORT_MULTICAST_ROUTER {
			_ = set([]portFlag{f})
			continue
		}
		must = append(must, f)
	}
	return set(must)
}

// packetSocket makes a socket on an interface of the thread's namespace that gets frames of one type, or none for type 0.
// With vnet what is written to it begins with a virtio-net header.
func packetSocket(index int, ethertype uint16, vnet int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	s := os.NewFile(uintptr(fd), "packet")
	if vnet != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			_ = s.Close()
			return nil, err
		}
	}
	to := &unix.SockaddrLinklayer{Ifindex: index, Protocol: ethertype>>8 | ethertype<<8}
	if err := unix.Bind(fd, to); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}
