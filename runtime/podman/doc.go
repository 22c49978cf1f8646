// Package podman is the edge to Podman's service, root's or a user's: an [Engine] tells of its containers, those of pods
// among them, and of what happens to them, by the libpod API (docs.podman.io/en/latest/_static/api.html) and Podman's own
// bindings. It is built with the tag remote, as the bindings need; without it Open says so.
//
// # Nouns
//
//   - An Engine is the way to one service, which need not be there: it often runs only while somebody asks.
//
// # Who may call what
//
// An Engine's methods may be called concurrently. It starts goroutines only inside its calls, which wait for them.
//
// # What does not belong here
//
// The OCI hook, which works without the service (runtime.ParseHook, cmd/weave).
package podman
