// Package sim runs many peers' cores in one process, under a clock that only
// it moves and one seeded source of randomness, so that a run of hours takes
// seconds and can be repeated exactly. It does what a driver does with the
// effects of peer.Mesh, over a network with latency, refused dials, breaking
// connections, partitions and restarts, and calls Check after every step.
//
// Control messages go through their wire encoding. As on TCP they are neither
// lost nor reordered while their connection lives. The data sessions are
// simulated by their outcome only: PathChanged. Config.Fast gives up the
// encoding (sizes are still exact) and shares equal records, for thousands of
// peers.
//
// Play runs a script: lines of a verb and words, "#" to the end is a comment.
// What a command prints stands below it, after "> "; a script passes if it
// prints what it says. go test ./internal/sim -run TestScripts -update writes
// what is printed into testdata/*.txt.
//
//	seed N · latency 2ms · isolated · limit N   the weather; before any node
//	nodes a b c                 hosts; the first has address 10.0.0.0
//	twin x b                    a host with b's name and a key of its own
//	delay a b 50ms              one way, both directions
//	wall a b                    a cannot dial b; b can still dial a
//	start a b c                 a runs (again), its targets are b and c
//	grow N                      N more hosts, n1 …, join by the first, 20 a second
//	kill a · leave a            at once · with a goodbye
//	connect a b · forget a b    targets, while it runs
//	cut a b · mend a b          nothing passes between a and b · it does again
//	partition a b | c d         groups that cannot talk · heal ends it
//	garbage a N                 a sends N messages that no honest peer sends
//	flood a N                   a sends N new versions of its record at once
//	at 20s                      time passes until 20 s after the begin
//	wait 5s CONDITION           time passes until it holds; prints if it does not:
//	    converged               all hold the same records and route without loops
//	    settled                 the same, cheaper: for many peers
//	    peers a N               a knows N peers, itself included
//	    connections a N
//	    route a d b             a's route to d goes by b; "none" for no route
//	    state a b established   of a's connection with b; "none" for none
//	show peers|routes|connections|trouble a
//	show shape                  degrees and diameter of the control graph
//
// A Network and its Nodes belong to one goroutine. The package is for tests
// and measurements; nothing of the product imports it.
package sim
