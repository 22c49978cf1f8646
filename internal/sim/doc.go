// Package sim runs many peers' cores in one process, under a clock that only
// it moves and one seeded source of randomness, so that a run of hours takes
// seconds and can be repeated exactly. It does what a driver does with the
// effects of peer.Mesh, over a network with latency, refused dials, breaking
// connections, partitions and restarts, and calls Check after every step.
//
// Control messages go through their wire encoding. As on TCP they are neither
// lost nor reordered while their connection lives. The data sessions are
// simulated by their outcome only: PathChanged.
//
// A Network and its Nodes belong to one goroutine. The package is for tests;
// nothing of the product imports it.
package sim
