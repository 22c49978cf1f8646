// Package api is the daemon's HTTP interface and the client that speaks it.
//
// Nouns: a Report is everything an operator may know about a running daemon, as plain data; the Render functions
// turn one into the texts of `weave status`. A Server offers two faces of the same routes: the full one on unix
// sockets, whose callers are checked by their kernel-supplied credentials, and a read-only one (status, report,
// metrics) on TCP, where anybody on the machine can call. The work behind the routes is done by Backends, which the
// driver implements. A Client calls the unix socket.
//
// Concurrency: a Server calls its Backends from many goroutines at once; each Backends implementation answers from
// snapshots or locks for itself. All goroutines of a Server live inside Run. A Client may be shared.
//
// What does not belong here: decisions. Handlers parse, call one backend method, and write the answer.
package api
