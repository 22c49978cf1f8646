// Package wire owns every byte that peers exchange: the control messages (control.proto), WireGuard's four message
// types (message.go) and the plaintexts inside WireGuard's data messages (plaintext.go). It is pure: it knows no socket,
// clock, file or logger, starts no goroutine, and everything it needs is an argument.
//
// Nouns:
//
//   - A packet is what a TAP device opened with IFF_VNET_HDR gives and takes: a 10-byte virtio-net header, then an
//     Ethernet frame, up to MaxPacket bytes.
//   - A super-frame is a packet whose frame holds up to 64 KB of TCP or UDP payload that the kernel left for someone
//     else to cut into segments (TSO, USO). We cut at the borders where the kernel would, send every segment with the
//     frame's headers in a datagram of its own, and join what arrives, so that a lost datagram costs one segment.
//   - A plaintext is what one WireGuard data message seals: a bundle of small frames, one segment, one fragment, or a
//     control kind. A limit is the largest plaintext, in bytes, that the path to a peer carries.
//   - A source is the small number by which the driver knows the peer a plaintext came from.
//
// The Cutter turns packets into plaintexts, the Joiner turns plaintexts back into packets. Each belongs to one goroutine
// at a time and has no lock; after warm-up neither allocates. The functions without receiver may be called by anybody.
//
// Whatever arrives is taken for hostile, although it was authenticated: a Fault says why something was dropped, for the
// driver to count. Not here: encryption and keys (peer/session), sockets and paths (peer/link), what to do with a frame
// (stack).
package wire

//go:generate protoc -I ../.. --go_out=../.. --go_opt=paths=source_relative peer/wire/control.proto
