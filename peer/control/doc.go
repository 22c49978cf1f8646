// Package control is the edge between weave and the TCP connections on which
// peers talk about themselves: who they are, whom they see.
//
// # Nouns
//
// A Transport listens and dials. A Conn is one connection whose handshake is
// complete: both ends hold the same password (or none), and each has proved the
// X25519 key that is its identity. An Event tells the driver what happened.
//
// # On the wire
//
//	preface ──► Noise XXpsk3 handshake ──► frames: encrypted parts of protobuf messages
//
// preface.go, handshake.go and frame.go draw the layouts. What the messages say
// is peer/wire's business.
//
// # Concurrency
//
// All methods may be called by any goroutine and, Run excepted, never block. All
// goroutines are started inside Run, which waits for them. Each connection has a
// queue that is bounded and merges, a writer while something waits in it, and a
// reader while something comes; one goroutine waits for those that are quiet. A
// peer that does not read delays nobody, and is dropped once its socket has taken
// nothing for Limits.Write or its queue is full.
//
// All events go to the one channel given to Run. The driver must keep reading
// it: a driver that stops, stops the readers of all connections, nothing else.
//
// # What does not belong here
//
// Which peers to dial and when to try again, what a message means, whether a key
// may bear a name: package peer decides.
package control
