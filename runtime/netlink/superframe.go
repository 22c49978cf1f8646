package netlink

const (
	// longestRun is the most bytes that one send with UDP_SEGMENT takes (udp(7)).
	longestRun = 65535 - 20 - 8
	// perSegment is what a segment travels in beyond its IP packet: the inner Ethernet
	// header, weave's header of a segment, the data message's header and tag.
	perSegment = 14 + 16 + 16 + 16
	// perPacket are the IPv4 and TCP headers of a packet, with timestamps.
	perPacket = 20 + 32
	// kernelSlack is more than the headers that TCP leaves room for in a super-frame
	// (MAX_TCP_HEADER, include/net/tcp.h), and less than those and a packet.
	kernelSlack = 512
)

// fitSuperFrames makes a container's super-frames as long as one send between
// hosts takes, whole. By default they are a packet or two longer, and each such
// rest costs a send, a datagram and a frame of its own. It is worth a few
// percent and nothing depends on it, so it may fail: older kernels, other rights.
func fitSuperFrames(inside *space, name string, mtu int) {
	size := superFrame(mtu)
	if size == 0 {
		return
	}
	if link, err := inside.LinkByName(name); err == nil {
		_ = inside.LinkSetGSOMaxSize(link, size)
	}
}

// superFrame is the gso_max_size for an MTU, both in bytes; 0 where the kernel's
// own is as good.
func superFrame(mtu int) int {
	packets := longestRun / (mtu + perSegment)
	if mtu <= kernelSlack+perPacket || packets < 2 {
		return 0
	}
	return packets*(mtu-perPacket) + kernelSlack
}
