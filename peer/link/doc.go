// Package link is the edge between weave and the host's UDP sockets.
//
// It moves batches. One recvmmsg(2) fills many slots, one sendmmsg(2) empties
// many, and the kernel cuts and joins runs of equal datagrams on the way
// (UDP_SEGMENT since Linux 4.18, UDP_GRO since 5.0; udp(7)). Neither direction
// allocates in the steady state.
//
// # Nouns
//
// A Socket is one bound UDP socket of one family. A Receiver and a Sender are
// views of it that own the arrays one system call needs. A run is a slice of
// datagrams laid end to end, all to or from one address, all of one size (the
// segment), the last possibly shorter:
//
//	data  |<- segment ->|<- segment ->|<- segment ->|<-rest->|
//	      | datagram 0  | datagram 1  | datagram 2  | dg. 3  |
//
// A run of one datagram is the ordinary case and has segment == len(data).
//
// Datagrams leave with "do not fragment" set: one that does not fit the path is
// reported by Sender.Flush as TooBig, never cut into IP fragments.
//
// # Concurrency
//
// A Socket may be used by any number of goroutines. A Receiver and a Sender
// belong to one goroutine each; several of both may share a Socket. Neither
// waits to receive: callers poll(2) the descriptor that Control lends them.
//
// # What does not belong here
//
// What a datagram means, who is behind an address, which path is best: the
// package above decides. Nothing here starts a goroutine.
package link
