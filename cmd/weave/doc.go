// Weave is the program: the commands users type, and the daemon they start.
//
// Every verb is one row in a table (verbs.go): its flags and the function that turns an invocation into one call to the
// daemon. `weave launch` starts two processes from this same binary: a supervisor in a session of its own, which
// starts the daemon and starts it again when it dies (supervisor.go), and the daemon, which is node.Run (daemon.go).
//
// What does not belong here: anything a daemon decides. This package talks to internal/api and internal/node only.
package main
