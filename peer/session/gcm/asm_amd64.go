package gcm

// features is ECX of CPUID leaf 7, subleaf 0; 0 where there is no such leaf.
func features() uint32

// expand makes the round keys of AES-256 (FIPS 197, 5.2).
//
//go:noescape
func expand(s *schedule, key *[32]byte)

// encrypt encrypts one block, its bytes in their usual order.
//
//go:noescape
func encrypt(s *schedule, dst, src *[blockLen]byte)

// multiply sets dst to a times b in the field of GHASH.
//
//go:noescape
func multiply(dst, a, b *[blockLen]byte)

// seal encrypts n bytes, a multiple of batch, from src to dst, which may be the
// same, and hashes the result. It moves counter and ghash on.
//
//go:noescape
func seal(s *schedule, dst, src *byte, n int, counter, ghash *[blockLen]byte)

// open is seal the other way: it hashes what it reads.
//
//go:noescape
func open(s *schedule, dst, src *byte, n int, counter, ghash *[blockLen]byte)

// keystream encrypts the eight counter blocks from counter on, and first.
//
//go:noescape
func keystream(s *schedule, dst *[batch + blockLen]byte, counter, first *[blockLen]byte)

// hash moves ghash on by 1 to tailMax blocks.
//
//go:noescape
func hash(s *schedule, ghash *[blockLen]byte, data *byte, blocks int)

// sealWide encrypts n bytes from src to dst, which may be the same, and makes
// the tag. It may write the tag where src ends.
//
//go:noescape
func sealWide(s *wideSchedule, dst, src *byte, n int, nonce *[nonceLen]byte, tag *[tagLen]byte)

// openWide decrypts n bytes from src to dst, which may be the same, and makes
// the tag that their sender should have made.
//
//go:noescape
func openWide(s *wideSchedule, dst, src *byte, n int, nonce *[nonceLen]byte, tag *[tagLen]byte)
