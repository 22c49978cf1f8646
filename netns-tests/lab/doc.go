// Package lab builds small networks out of Linux namespaces for tests, for the
// demonstration and for measurements: hosts on a common underlay, containers
// on hosts, faults between them, and traffic to send through all of it.
//
// Nouns: a Lab is one underlay with its hosts; a Host is a network namespace
// with a link to the underlay and directories of its own for a weave daemon; a
// Container is a network namespace that belongs to a host and starts with
// nothing but lo; an NS is the namespace below both.
//
//	         underlay namespace: bridge br0 10.99.0.254/24, fd99::254/64
//	    h1 |             h2 |             h3 |              (bridge ports)
//	       |                |                |
//	  eth0 |           eth0 |           eth0 |
//	+------+-----+   +------+-----+   +------+-----+
//	| host 1     |   | host 2     |   | host 3     |
//	| 10.99.0.1  |   | 10.99.0.2  |   | 10.99.0.3  |
//	| fd99::1    |   | fd99::2    |   | fd99::3    |
//	+------------+   +------------+   +------------+
//	  c1   c2            c3                c4               (containers)
//
// Everything lives in mount, network and PID namespaces of our own, which Main
// enters by executing the program once more: nothing of the machine is
// touched, and all of it, daemons included, vanishes with the process. Root is
// not needed where the kernel allows user namespaces.
//
// Concurrency: a Lab and its parts are built by one goroutine. NS.Do, the
// traffic functions and Host.Weave may be called by many at once.
//
// What does not belong here: assertions about weave (the tests in the parent
// folder hold them) and anything that a plain `testing` helper already does.
package lab
