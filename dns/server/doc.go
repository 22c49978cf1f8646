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
// Queries for addresses in the domain, and those that the cache knows, are
// answered by a short path that touches the wire format itself and does not
// allocate; github.com/miekg/dns does the rest. Whatever comes in, the server
// answers it, says why not, or is silent.
//
// A query for others goes this way. What the cache does not know counts among
// what its client may forward, and may be refused:
//
//	query ─► cache ─► places ─► flights ─► Upstreams ─► servers
//	                            (the same question joins one under way)
//
// A Server starts goroutines only inside Run, which waits for them. Its other
// methods may be called by anybody at any time.
//
// What does not belong here: which names there are (dns), which addresses to
// listen on (internal/node).
package server
