// Package gcm seals with AES-256-GCM (NIST SP 800-38D) by the processor's
// vectors of 512 or 256 bits where it has instructions for that, and by the
// standard library where it has not.
//
// The standard library uses AES instructions on one block at a time; processors
// with VAES and VPCLMULQDQ work on two (AMD since Zen 3, Intel since Alder Lake)
// or, with AVX-512, on four (AMD since Zen 4, Intel's servers since Ice Lake).
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
