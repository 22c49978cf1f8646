// Package session speaks WireGuard: it agrees on keys with other peers and seals the messages between them. It follows
// the WireGuard whitepaper (https://www.wireguard.com/papers/wireguard.pdf), and is tried against wireguard-go's own
// device in its tests. It knows no socket, no clock and no goroutine; whoever drives it brings those.
//
// # Nouns
//
//   - Machine: the protocol for one identity and all its peers. Inputs go into Step, Effects come out.
//   - Keypair: what a handshake yields. Seal and Open turn plaintexts into data messages and back, a Row seals some that
//     follow each other. Export gives both ends the same secret for another use, as by the kernel.
//   - Keys: one peer's keypairs as the data plane sees them, read without a lock.
//   - Clock: the coarse time that Seal and Open read.
//   - Suite: WireGuard's ChaCha20-Poly1305, or AES-256-GCM under a prologue of its own between two weave peers.
//
// # How to drive it
//
// One goroutine owns the Machine. It puts in handshake datagrams (type 1 to 3), Wants and Ticks (when Deadline has
// come; ask for Deadline after each Step), and performs the Effects in their order: Install, Send, Keepalive, Retire.
// The data path holds a map from receiver index to Keypair, kept by Install and Retire, for what arrives, and each
// peer's Keys for what leaves:
//
//	clock.Advance(time.Now())              // once per batch
//	if k := keys.Sending(); k != nil {
//		buf, err = k.Seal(buf, plaintext)  // ErrExhausted and ErrExpired: as if k were nil
//	} else {
//		...                                // have the Machine told: Want{Key: peer}
//	}
//
// Step keeps Keys up to date itself, so an initiator's new keypair is used even before its Install is performed; the
// answers need a round trip, by when the index is known.
//
// # Concurrency
//
// Machine: one goroutine. Keys, Keypair, Clock: any number, together with the Machine's own. Seal and Open share no
// lock but the one around a Keypair's replay window, and allocate nothing.
//
// # What the paper says, and where this differs
//
//   - A keypair is zeroed when it is 180 s old, the moment nothing can be sealed or opened with it any more; the paper
//     allows 540 s. What is left of a handshake is wiped when it succeeds, is repeated or is given up. Neither Go nor
//     the Noise library gives a way to reach copies inside hash functions and big-integer code.
//   - The paper lets an initiation we send be forgotten when one arrives. Here both go on: when two peers begin at
//     once, both handshakes succeed in one round trip instead of neither until a retry after five seconds.
//   - Timers of an active keypair are looked at once a second (Limits.Poll), so they fire up to that much late.
//   - Plaintexts are not padded to 16 bytes. Receivers do not ask for it (tested against wireguard-go); what pads is
//     whoever wants to hide lengths.
//   - AES-GCM wears out sooner than ChaCha20-Poly1305: see Limits.
//   - Initiations carry strictly rising timestamps even when the wall clock is set back while the Machine lives.
//
// # What does not belong here
//
// Which address a peer has, what is inside a plaintext, what waits for a key, counters and logs.
package session
