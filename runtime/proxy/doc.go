// Package proxy is the edge to users of the Docker API: a server that passes everything on to the engine, byte for byte,
// but changes how containers are made, so that they join the network and wait for it before their program runs.
//
// # Nouns
//
//   - A Proxy has one engine behind it and any number of listeners in front.
//   - A Network is asked to attach containers, and for what they have.
//   - The shim is a program that new containers run first (runtime/shim).
//
// What is changed (Docker Engine API, docs.docker.com/reference/api/engine):
//
//	POST /containers/create         entrypoint, the shim's mount, host name and DNS
//	POST /containers/ID/start       answered when the container is attached
//	POST /containers/ID/restart     likewise
//	POST /containers/ID/exec        the command runs behind the shim too
//	GET  /containers/ID/json        with RewriteInspect: the overlay's address
//
// # Who may call what
//
// Run serves every request in goroutines of its own and waits for all of them.
//
// # What does not belong here
//
// Attaching; which containers are wanted (runtime.WishOf); the shim's waiting.
package proxy
