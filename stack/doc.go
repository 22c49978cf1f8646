// Package stack is the user-space Ethernet switch: it looks at a frame and says where the frame goes.
//
// The nouns: a Frame is a view on bytes. A Port is Local (a TAP, the host's own endpoint) or Remote (a peer). A Switch has ports,
// a table of the MACs learnt behind them and the multicast groups joined behind them; Decide gives a Verdict, which names one
// port or an immutable PortSet. Horizon: what comes from a peer goes to local ports only, because every peer got its own
// copy; so the full mesh of peers has no loops, and spanning tree is neither needed nor passed on.
//
// The driver owns everything else. It reads frames, calls Decide, writes them, counts what it forwarded; it numbers the ports;
// it calls Age every few seconds; it brings the time, a Stamp in whole seconds. The package has no goroutine, clock, socket
// or logger and imports nothing of this module.
//
// All methods may be called from any goroutine at any time (but for Check). Decide takes no lock: MACs live in a table of
// atomics, and ports and groups in a plan that is replaced as a whole, behind an atomic pointer, by whoever changes them. Only
// queries, reports and PIM messages of a group's members and routers take the writers' mutex, and only they allocate.
//
// The switch never fails. Bad input is a counted drop or is flooded; a full table and more groups than it follows cost
// bandwidth, because what is not known is flooded, and a counter says so.
//
// One table serves all VLANs: a MAC that lives behind two ports on two VLANs is seen as moving. Groups are kept apart by VLAN.
//
// What does not belong here: policy (stack/filter), the host's own endpoint (stack/host), tunnels, offload headers.
package stack
