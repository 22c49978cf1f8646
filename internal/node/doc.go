// Package node is the daemon: the one place that joins the rooms and decides what runs.
//
// The nouns, and the goroutine each belongs to:
//
//   - node: everything a daemon holds; Run makes it, starts the loops and waits for them.
//
//   - meshLoop: owns peer.Mesh; control connections in, a published View out.
//
//   - sessionLoop: owns session.Machine; handshakes in, a published table out; heartbeats.
//
//   - lane: a goroutine of the data plane that polls its devices. uplink, one per TAP queue: frames to datagrams.
//     downlink, one per UDP socket: datagrams to frames. output: the sealing half that both and the session loop use.
//
//   - fastdp: the session loop's part that puts peers on the kernel path and takes them off; peer.FastPaths says whom.
//
//   - mtuKeeper: with --mtu auto, has the MTU of containers follow the paths.
//
//   - attachments: a lock around what is attached; API requests work on it directly.
//
//   - exposure, portServices: a lock each around what the host shows of itself. portServices.run tries the targets.
//
//     View                          table (immutable, atomic)
//     meshLoop ───────────► sessionLoop ────────────────────────► uplink, downlink
//     ▲  ▲    PathChanged     │  ▲    handshakes, wants, moves, beats    │
//     │  └────────────────────┘  └───────────────────────────────────────┘
//     └── control.Transport                 (bounded, never waited for)
//
// The mesh loop never waits for the session loop, and neither is waited for by the data plane.
//
// Run may be called once per state directory and network namespace. Reset is for when no daemon runs.
//
// What does not belong here: decisions (the cores), system calls (the edges), texts of commands (cmd/weave).
package node
