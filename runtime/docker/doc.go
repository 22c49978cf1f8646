// Package docker is the edge to Docker Engine: an [Engine] tells of its containers and what happens to them, by the Engine
// API (docs.docker.com/reference/api/engine), of whatever version both sides speak: Docker 20.10 and later.
//
// # Nouns
//
//   - An Engine is the way to one daemon, which need not be there: then its methods fail, and work again when it is back.
//
// # Who may call what
//
// An Engine's methods may be called concurrently. It starts goroutines only inside its calls, which wait for them.
//
// # What does not belong here
//
// Deciding which containers are attached (runtime), attaching them (runtime/netlink), changing what users ask of Docker
// (runtime/proxy). Podman's Docker-compatible socket works here too, but runtime/podman knows pods.
package docker
