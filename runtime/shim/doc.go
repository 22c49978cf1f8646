// Package shim is what a container made through the proxy runs first: it waits until weave has attached the container, then
// becomes the program that the container is for. It is the weave binary itself under another name, mounted read-only.
//
// # Nouns
//
//   - Main is the shim's main function. It needs nothing of the container but /proc, and starts within milliseconds.
//
// # Who may call what
//
// Main is called once, first thing in a process.
//
// # What does not belong here
//
// Attaching, and putting the shim into containers (internal/node, runtime/proxy).
package shim
