// Package shim holds a container's program back until its interface is there.
//
// The proxy has containers start as `/w/w PROGRAM ARGUMENT…`: the weave binary under the name w, mounted read-only, with
// nothing needed of the container but its kernel and /proc. It waits for the interface to be up and to have an address, and
// becomes the program. The network being there when a program starts is what a container's author expects.
//
// # Nouns
//
//   - The shim is the process before it becomes the program.
//   - The directory that a container has at /w holds the binary, and beside it a file of what else to wait for, or a mark that
//     there is nothing to wait for. Files there are seen by nobody else, unlike environment variables or arguments.
//
// # Who may call what
//
// Main is a process's only occupation. Install is called by the node before the proxy runs, by one goroutine.
//
// # What does not belong here
//
// Attaching (internal/node), making containers use the shim (runtime/proxy), and anything that would make starting slow: a
// hundred containers may start at once.
package shim
