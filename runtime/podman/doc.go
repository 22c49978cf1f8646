// Package podman is the edge to a Podman service, root's or a user's: versions 4 to 6, through its own API (libpod).
//
// It is only there in builds with the tag "remote", which Podman's bindings want. Without it Open fails, so that a plain
// `go build ./...` and `go vet ./...` work nevertheless.
//
// Of the bindings it uses the connection (pkg/bindings): finding the service, agreeing on the version, paths, errors. The
// calls are made here: pkg/bindings/containers would bring in the code that builds images, twenty times as many modules,
// C libraries wherever cgo is on, and structs that change their types between Podman's versions; the bindings' Events
// does not end with its context.
//
// # Nouns
//
//   - An Engine is one socket. The service behind it may be absent, come and go (systemd starts it on demand and Podman
//     ends it when it is idle), and be another version afterwards.
//   - A connection is what the bindings know of a service once they have reached it.
//
// # Who may call what
//
// All methods may be called concurrently. Only Watch starts a goroutine, and has waited for it when it returns.
//
// # What does not belong here
//
// What a container's settings ask for (runtime.WishOf), when to try again after the service has gone, and the hook that
// Podman runs before a container's process starts.
package podman
