package control

import (
	"context"
	"log/slog"
	"net/netip"
	"time"
)

// DefaultPort is the control port where none is given.
const DefaultPort = 6783

// Config is what a Transport is made of.
type Config struct {
	Private  [32]byte   // X25519 private key, the peer's identity
	PSKs     [][32]byte // from the passwords, see Transport.SetPSKs; none: the zero PSK, no password
	Password bool       // a password is set
	Port     uint16     // dialled where a target names none; 0: DefaultPort
	Source   netip.Addr // local address of outgoing connections; zero: the kernel's choice
	Resolver Resolver   // nil: net.DefaultResolver
	Log      *slog.Logger
	// Data takes the messages of data sessions, on the goroutine that reads the
	// connection: it must not block. nil: they are dropped.
	Data func(Data)

	MinVersion, MaxVersion uint8 // protocol versions offered; 0: ProtocolMin, ProtocolMax
	Limits                 Limits
}

// Resolver looks host names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Limits are the times and sizes of a Transport; a zero field means the default
// written beside it.
type Limits struct {
	Dial      time.Duration // 10 s: looking a name up, and connecting to each of its addresses
	Handshake time.Duration // 10 s: from connect to the end of the handshake
	Heartbeat time.Duration // 30 s: sent after this much silence of ours
	Idle      time.Duration // 60 s: for the next frame of the other end to arrive
	Write     time.Duration // 10 s: for the kernel to take what we write
	Goodbye   time.Duration // 1 s: from Close to the end of the connection
	Queue     int           // 8 MiB: waiting bytes per connection
	Data      int           // 256 KiB: of these, messages of data sessions; more are dropped
	HalfOpen  int           // 64: incoming handshakes at a time
	Burst     int           // 20: connections accepted at once
	Interval  time.Duration // 50 ms: between two accepts after that
	Rekey     uint64        // 65536: messages between rekeys; the same on all peers
}

func (l Limits) withDefaults() Limits {
	orElse(&l.Dial, 10*time.Second)
	orElse(&l.Handshake, 10*time.Second)
	orElse(&l.Heartbeat, 30*time.Second)
	orElse(&l.Idle, 60*time.Second)
	orElse(&l.Write, 10*time.Second)
	orElse(&l.Goodbye, time.Second)
	orElse(&l.Queue, 8<<20)
	orElse(&l.Data, 256<<10)
	orElse(&l.HalfOpen, 64)
	orElse(&l.Burst, 20)
	orElse(&l.Interval, 50*time.Millisecond)
	orElse(&l.Rekey, rekeyEvery)
	return l
}

func orElse[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}
