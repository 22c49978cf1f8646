// Command vm runs tests in a guest with a kernel of its own, for what the machine's kernel may not have: IPsec and WireGuard.
//
// The guest is User Mode Linux, a Linux kernel that runs as an ordinary process: no virtualisation is needed, and it is up
// within two seconds. It sees the machine's files read-only, below an overlay in memory that takes what is written, so that
// every program of the machine is there. Each package is built as a static test binary, runs as root in a guest of its own,
// and is reported as `make test` would.
//
// # What does not belong here
//
// The tests themselves: they are in netns-tests/vm/guest.
package main
