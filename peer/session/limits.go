package session

import "time"

// Limits are the constants of the WireGuard whitepaper, section 6.1. A zero field means the paper's value; tests
// shorten them.
type Limits struct {
	RekeyAfterMessages  uint64        // 2^60; 2^26 under AES-GCM
	RejectAfterMessages uint64        // 2^64 - 2^13 - 1; 2^32 under AES-GCM
	RekeyAfterTime      time.Duration // 120 s: the initiator renews a keypair that is in use
	RejectAfterTime     time.Duration // 180 s: nothing is sealed or opened any more
	RekeyAttemptTime    time.Duration // 90 s: a handshake without an answer is given up
	RekeyTimeout        time.Duration // 5 s, plus up to a third: an initiation is repeated
	KeepaliveTimeout    time.Duration // 10 s: data came, nothing went back
	CookieLifetime      time.Duration // 120 s
	InitiationGap       time.Duration // 20 ms: the least between two initiations of one peer
	Poll                time.Duration // 1 s: how often the activity of live keypairs is looked at; not in the paper
}

// GCM loses security with the square of the number of blocks under one key (RFC 8446, section 5.5; RFC 9001, section
// 6.6 and appendix B): 2^26 messages of 1,400 bytes are 2^32.5 blocks, an advantage below 2^-60; 2^32 of them 2^-50.
// The paper's 2^60 would not do. At a million messages a second that is one handshake more per minute.
const (
	gcmRekeyAfterMessages  = 1 << 26
	gcmRejectAfterMessages = 1 << 32

	paperRekeyAfterMessages  = 1 << 60
	paperRejectAfterMessages = 1<<64 - 1<<13 - 1
)

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *time.Duration
		paper time.Duration
	}{
		{&l.RekeyAfterTime, 120 * time.Second},
		{&l.RejectAfterTime, 180 * time.Second},
		{&l.RekeyAttemptTime, 90 * time.Second},
		{&l.RekeyTimeout, 5 * time.Second},
		{&l.KeepaliveTimeout, 10 * time.Second},
		{&l.CookieLifetime, 120 * time.Second},
		{&l.InitiationGap, 20 * time.Millisecond},
		{&l.Poll, time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.paper
		}
	}
	if l.RekeyAfterMessages == 0 {
		l.RekeyAfterMessages = paperRekeyAfterMessages
	}
	if l.RejectAfterMessages == 0 || l.RejectAfterMessages > paperRejectAfterMessages {
		l.RejectAfterMessages = paperRejectAfterMessages
	}
	return l
}

func (l *Limits) rekey(s Suite) uint64 {
	if s == SuiteAESGCM {
		return min(l.RekeyAfterMessages, gcmRekeyAfterMessages)
	}
	return l.RekeyAfterMessages
}

func (l *Limits) reject(s Suite) uint64 {
	if s == SuiteAESGCM {
		return min(l.RejectAfterMessages, gcmRejectAfterMessages)
	}
	return l.RejectAfterMessages
}
