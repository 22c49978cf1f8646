// Package proxy stands between Docker's clients and their engine and has the containers they make join the network.
//
// A container is made to start with the wait shim (see runtime/shim), which holds its process back until the interface
// is there; the answer to a start is held back until the container is attached. Everything else passes as it is, byte
// for byte: the proxy reads HTTP only as far as needed to know where a message ends.
//
//	client            proxy                                engine
//	  | create          | look at the image                  |
//	  |---------------->| entrypoint /w/w, bind, DNS ------->|
//	  | start           |----------------------------------->| runs /w/w, which waits
//	  |---------------->|              204 <-----------------|
//	  |                 | Network.Attach: interface, address | /w/w becomes the container's program
//	  |            204  |                                    |
//	  |<----------------|                                    |
//
// # Nouns
//
//   - A Proxy relays between clients and one engine, its upstream.
//   - A session is one client's connection with the one connection to the engine that serves it.
//   - An exchange is a request and its response on a session; the session is a tunnel after one that switches protocols.
//   - A call is what a request is to us: one of the few that are changed, or any other.
//
// # Who may call what
//
// New, Listen and the methods of Proxy may be called from any goroutine. Run starts all goroutines and waits for them. A
// Network's methods are called concurrently, from many sessions.
//
// # What does not belong here
//
// Attaching, allocating, naming: the node does that behind Network, also for containers that no proxy saw start.
//
// Formats: Docker Engine API (docs.docker.com/reference/api/engine), HTTP/1.1 (RFC 9112).
package proxy
