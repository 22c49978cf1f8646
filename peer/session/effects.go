package session

import "net/netip"

// Input is what can happen to a Machine: AddPeer, RemovePeer, Datagram, Want, Tick.
type Input interface{ input() }

// AddPeer makes a peer known, or changes the pre-shared key and suite of one that is; a change holds from the next
// handshake message on, keypairs in use stay.
type AddPeer struct {
	Key   PublicKey
	PSK   [32]byte // zero: none, which is what WireGuard does then
	Suite Suite    // used when we are the initiator
	Clear bool     // the peer may choose SuiteClear
}

// RemovePeer forgets a peer, zeroes its keys and retires their indexes.
type RemovePeer struct{ Key PublicKey }

// Datagram is a message of type 1, 2 or 3 as it came. Bytes are not kept and not changed.
type Datagram struct {
	From      netip.AddrPort
	Bytes     []byte
	UnderLoad bool // handshake messages queue up: ask for a cookie before doing public-key work
}

// Want asks for a handshake: data waits and Keys.Sending is nil, or an operator asks. Nothing happens when one runs.
type Want struct{ Key PublicKey }

// Tick lets time pass. Any other input does the same, so a Tick is needed only when Deadline has come.
type Tick struct{}

func (AddPeer) input()    {}
func (RemovePeer) input() {}
func (Datagram) input()   {}
func (Want) input()       {}
func (Tick) input()       {}

// Effects are what a Step asks the driver to do, in this order: Install, Send, Keepalive, Retire; the rest is news.
type Effects struct {
	Install   []Install
	Send      []Send
	Keepalive []PublicKey // seal an empty plaintext with Keys.Sending and send it, unless data is about to go anyway
	Retire    []Retire
	Failed    []PublicKey // gave up a handshake after Limits.RekeyAttemptTime; what waits for it can be dropped
	Dropped   []Drop
}

// Send is a handshake message to send. The bytes are the driver's.
type Send struct {
	Peer  PublicKey      // zero for a cookie reply
	To    netip.AddrPort // zero: wherever the peer is reached at present
	Bytes []byte
}

// Install says that a keypair exists: data messages with its LocalIndex are for it. Its peer's Keys know it already.
type Install struct {
	Peer    PublicKey
	Keypair *Keypair
}

// Retire says that no message for this receiver index can be opened any more; the keypair is zeroed.
type Retire struct {
	Peer  PublicKey
	Index uint32
}

// Drop is an input that was refused.
type Drop struct {
	From   netip.AddrPort
	Reason DropReason
}

// DropReason says why an input was refused; drivers count them.
type DropReason uint8

// The reasons to refuse an input.
const (
	DropMalformed    DropReason = iota // no message of type 1 to 3
	DropSuite                          // a suite we do not know or cannot do, or not the one of our initiation
	DropMAC1                           // the sender does not know our public key
	DropCookie                         // under load without a cookie; one was sent
	DropRateLimited                    // under load, with a cookie, but too often
	DropForged                         // does not decrypt: another pre-shared key, damage, an attack
	DropUnknownPeer                    // an initiation from a key, or a request about one, that is not configured
	DropReplay                         // an initiation not newer than the last one of its sender
	DropFlood                          // an initiation too soon after the last one of its sender
	DropUnknownIndex                   // a response or cookie for a handshake we do not have (any more)
	DropBadPeer                        // AddPeer with our own or an invalid public key
	DropNoRandom                       // the source of randomness failed
	dropReasons
)

// String is the reason as part of a counter's name.
func (r DropReason) String() string {
	names := [dropReasons]string{
		"malformed", "suite", "mac1", "cookie", "rate_limited", "forged", "unknown_peer", "replay", "flood",
		"unknown_index", "bad_peer", "no_random",
	}
	if r < dropReasons {
		return names[r]
	}
	return "unknown"
}

func (e *Effects) drop(from netip.AddrPort, reason DropReason) {
	e.Dropped = append(e.Dropped, Drop{From: from, Reason: reason})
}
