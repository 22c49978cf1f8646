// Package shim holds a container's program back until its interface is there.
//
// The proxy has containers start as `/w/w PROGRAM ARGUMENT…`: this very binary under the name w, mounted read-only, with
// nothing needed of the container but its kernel. It waits for an interface ethwe that is up and has an address, and
// becomes the program. The network being there when a program starts is what a container's author expects.
//
// # Nouns
//
//   - The shim is the process before it becomes the program.
//   - A directory of Dirs is what a container has at /w: the binary, and beside it perhaps a mark that says what not to
//     wait for. A mark is seen by nobody else, unlike an environment variable or an argument.
//
// # Who may call what
//
// Main is a process's only occupation. Install is called by the node before the proxy runs, by one goroutine.
//
// # What does not belong here
//
// Making the interface. Anything that would make starting slow: a hundred containers may start at once.
package shim
