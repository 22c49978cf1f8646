// Package gcm seals with AES-256-GCM (NIST SP 800-38D) by the processor's
// 256-bit vector instructions where it has them, and by the standard library
// where it has not.
//
// The standard library uses AES instructions on one block at a time; processors
// with VAES and VPCLMULQDQ (AMD since Zen 3, Intel since Ice Lake) work on two.
// Sealing and opening are the largest cost of a frame, so that this is worth an
// implementation of our own. It does only what data messages ask for: 256-bit
// keys, 96-bit nonces, 128-bit tags, no additional data; anything else goes to
// the standard library, which is also the oracle of the tests. Its running time
// depends on lengths only, not on keys or data.
//
// An AEAD may be used by any number of goroutines. Nothing here allocates but
// New, and calls that go to the standard library.
//
// What does not belong here: nonces, keys, suites (package session).
package gcm
