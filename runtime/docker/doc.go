// Package docker is the edge to a Docker engine: 20.10 to 29, or another that speaks Docker's API from 1.40 on.
//
// # Nouns
//
//   - An Engine is one API endpoint, a unix or TCP socket. It is not a connection: the engine behind it may be absent,
//     may be restarted and may come back as another version, and the same Engine value goes on working.
//   - An API client speaks one version of the API, which it has agreed on with the engine. It is thrown away as soon as
//     the engine refuses that version or cannot be reached.
//   - A stream is the engine's answer to one Watch.
//
// # Who may call what
//
// All methods may be called concurrently. Only Watch starts a goroutine, and has waited for it when it returns.
//
// # What does not belong here
//
// What a container's settings ask for (runtime.WishOf), when to try again after an engine has gone, and the proxy
// (runtime/proxy), which speaks the same API to others.
package docker
