// Package tun opens Linux TAP devices and moves packets through them.
//
// # Nouns
//
//   - A Device is one TAP interface. It has one Queue, or several where the kernel spreads flows over them.
//   - A packet is a virtio-net header (HeaderLen bytes) followed by an Ethernet frame. It looks the same in both
//     directions and with every backend: the kernel writes and reads the header itself; where the kernel refuses
//     offloads, package water carries plain frames and this package makes the header up on the way in and honours it
//     (checksum, segmentation) on the way out.
//
// The header is struct virtio_net_hdr in its 10-byte form (virtio 1.2, section 5.1.6; Linux include/uapi/linux/virtio_net.h):
//
//	 0      1      2        4        6          8            10
//	+------+------+--------+--------+----------+------------+
//	|flags | gso  |hdr_len |gso_size|csum_start|csum_offset |   16-bit fields in host byte order
//	+------+------+--------+--------+----------+------------+
//
// # Who may call what
//
// TryRead of one Queue belongs to one goroutine at a time. WriteV may be called by any number of goroutines; each packet
// is one writev, so packets never mix. Close may be called at any time by anyone. Neither TryRead nor WriteV allocates.
// Nothing here waits for packets: callers poll(2) the descriptor that Control lends them.
//
// # What does not belong here
//
// Which frame goes where (package stack), bridges and veths (package runtime/netlink), anything that logs.
package tun
