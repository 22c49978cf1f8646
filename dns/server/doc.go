// Package server answers DNS queries: names of the network from the index of
// package dns, everything else from other name servers, through a cache.
//
// The nouns:
//
//   - Server: serves sockets that are given to it, of the host (see Listen) or of
//     a user-space network stack.
//   - Upstreams: the name servers to ask for what is not ours, from a file such as
//     /etc/resolv.conf, read again when it changes, or given.
//
// Queries for addresses in the domain are answered by a short path that touches
// the wire format itself and does not allocate; github.com/miekg/dns does the
// rest. Whatever comes in, the server answers it, says FORMERR, or is silent.
//
// A Server starts goroutines only inside Run, which waits for them. Its other
// methods may be called by anybody at any time.
//
// What does not belong here: which names there are (dns), which addresses to
// listen on (internal/node).
package server
