#include "textflag.h"

// AES-256 in counter mode and GHASH on four blocks per ZMM register, sixteen
// blocks a round. See gcm_amd64.s for how GHASH is done.
//
// A message is one call, from nonce to tag; its end is read and written by masks,
// not copied. Products are added up over as many blocks as there are powers of
// the hash key (a stretch) and reduced only then. While the AES rounds of
// one batch wait for each other, the products of another are made: when sealing
// of the batch before, when opening of the same one.

// Registers that keep their meaning:
//	AX  schedule                        SI, DI  source and destination
//	BX  the power that the next block in Z10 to Z13 meets
//	CX  bytes left                      R8  the end of the powers
//	R9  16 bytes for each block that is not in a stretch yet, and for the lengths
//	R10 scratch
//	Z0 to Z3   counter blocks, then key stream
//	Z4  counters, bytes reversed        Z5  mask that reverses bytes
//	Z6  powers                          Z7, Z8, Z9  low, middle and high products
//	Z10 to Z13 ciphertext to hash, bytes reversed
//	Z14, Z15   scratch                  Z16 to Z30  round keys
//	X31 the encrypted first counter block, which masks the tag

#define STRETCH 512
#define ROUNDS STRETCH // where the round keys are: behind the powers

DATA wreverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA wreverse<>+8(SB)/8, $0x0001020304050607
GLOBL wreverse<>(SB), RODATA|NOPTR, $16

DATA wpolynomial<>+0(SB)/8, $0x0000000000000001
DATA wpolynomial<>+8(SB)/8, $0xc200000000000000
GLOBL wpolynomial<>(SB), RODATA|NOPTR, $16

// 1, 2, 3, 4: from the first counter to those of four blocks
DATA ahead<>+0(SB)/8, $1
DATA ahead<>+8(SB)/8, $0
DATA ahead<>+16(SB)/8, $2
DATA ahead<>+24(SB)/8, $0
DATA ahead<>+32(SB)/8, $3
DATA ahead<>+40(SB)/8, $0
DATA ahead<>+48(SB)/8, $4
DATA ahead<>+56(SB)/8, $0
GLOBL ahead<>(SB), RODATA|NOPTR, $64

DATA four<>+0(SB)/8, $4
DATA four<>+8(SB)/8, $0
DATA four<>+16(SB)/8, $4
DATA four<>+24(SB)/8, $0
DATA four<>+32(SB)/8, $4
DATA four<>+40(SB)/8, $0
DATA four<>+48(SB)/8, $4
DATA four<>+56(SB)/8, $0
GLOBL four<>(SB), RODATA|NOPTR, $64

// AES does one round of AES with key k.
#define AES(k) \
	VAESENC k, Z0, Z0 \
	VAESENC k, Z1, Z1 \
	VAESENC k, Z2, Z2 \
	VAESENC k, Z3, Z3

// COUNT makes the next sixteen counter blocks and adds the first round key.
#define COUNT \
	VPSHUFB Z5, Z4, Z0          \
	VPADDD  four<>(SB), Z4, Z4  \
	VPSHUFB Z5, Z4, Z1          \
	VPADDD  four<>(SB), Z4, Z4  \
	VPSHUFB Z5, Z4, Z2          \
	VPADDD  four<>(SB), Z4, Z4  \
	VPSHUFB Z5, Z4, Z3          \
	VPADDD  four<>(SB), Z4, Z4  \
	VPXORQ  Z16, Z0, Z0         \
	VPXORQ  Z16, Z1, Z1         \
	VPXORQ  Z16, Z2, Z2         \
	VPXORQ  Z16, Z3, Z3

#define LAST \
	VAESENCLAST Z30, Z0, Z0 \
	VAESENCLAST Z30, Z1, Z1 \
	VAESENCLAST Z30, Z2, Z2 \
	VAESENCLAST Z30, Z3, Z3

// HASH adds the products of the four blocks in b with the powers at offset p.
#define HASH(b, p) \
	VMOVDQU64  p(BX), Z6          \
	VPCLMULQDQ $0x00, Z6, b, Z14  \
	VPCLMULQDQ $0x11, Z6, b, Z15  \
	VPXORQ     Z14, Z7, Z7        \
	VPXORQ     Z15, Z9, Z9        \
	VPCLMULQDQ $0x01, Z6, b, Z14  \
	VPCLMULQDQ $0x10, Z6, b, Z15  \
	VPTERNLOGQ $0x96, Z14, Z15, Z8

#define HASHALL \
	HASH(Z10, 0)   \
	HASH(Z11, 64)  \
	HASH(Z12, 128) \
	HASH(Z13, 192) \
	ADDQ $256, BX

#define AES3(a, b, c) \
	AES(a) \
	AES(b) \
	AES(c)

// STREAM fills Z0 to Z3 with key stream.
#define STREAM \
	COUNT               \
	AES3(Z17, Z18, Z19) \
	AES3(Z20, Z21, Z22) \
	AES3(Z23, Z24, Z25) \
	AES3(Z26, Z27, Z28) \
	AES(Z29)            \
	LAST

// STREAMHASH does STREAM and HASHALL.
#define STREAMHASH \
	COUNT               \
	AES(Z17)            \
	HASH(Z10, 0)        \
	AES3(Z18, Z19, Z20) \
	HASH(Z11, 64)       \
	AES3(Z21, Z22, Z23) \
	HASH(Z12, 128)      \
	AES3(Z24, Z25, Z26) \
	HASH(Z13, 192)      \
	AES3(Z27, Z28, Z29) \
	ADDQ $256, BX       \
	LAST

#define CLEAR \
	VPXORQ Z7, Z7, Z7 \
	VPXORQ Z8, Z8, Z8 \
	VPXORQ Z9, Z9, Z9

// REDUCE leaves the sum of products, reduced and with its lanes added, in X14;
// the other lanes of Z14 are 0.
#define REDUCE \
	VBROADCASTI32X4 wpolynomial<>(SB), Z6 \
	VPCLMULQDQ    $0x01, Z7, Z6, Z14 \
	VPSHUFD       $0x4e, Z7, Z7      \
	VPTERNLOGQ    $0x96, Z14, Z7, Z8 \
	VPCLMULQDQ    $0x01, Z8, Z6, Z14 \
	VPSHUFD       $0x4e, Z8, Z8      \
	VPTERNLOGQ    $0x96, Z14, Z8, Z9 \
	VEXTRACTI64X4 $1, Z9, Y14        \
	VPXOR         Y14, Y9, Y9        \
	VEXTRACTI128  $1, Y9, X14        \
	VPXOR         X14, X9, X14

// BEGIN begins a stretch: the longest, or all that is left.
#define BEGIN \
	MOVQ    $STRETCH, R10 \
	CMPQ    R9, R10       \
	CMOVQLT R9, R10       \
	MOVQ    R8, BX        \
	SUBQ    R10, BX       \
	SUBQ    R10, R9

// NEXT begins another stretch where one is over, with what is in Z10.
#define NEXT(go) \
	CMPQ   BX, R8        \
	JNE    go            \
	REDUCE               \
	VPXORQ Z14, Z10, Z10 \
	CLEAR                \
	BEGIN                \
go:

#define FIRST(a, b) VAESENC a, X31, X31; VAESENC b, X31, X31

// START sets up the registers: R11 points at the nonce. That is read as it was
// written just before, four bytes and eight: a load across two stores waits for
// both to reach the cache.
#define START \
	VBROADCASTI32X4 wreverse<>(SB), Z5    \
	MOVL            (R11), R10            \
	MOVQ            4(R11), R12           \
	MOVQ            R12, R13              \
	SHLQ            $32, R13              \
	ORQ             R13, R10              \
	VMOVQ           R10, X4               \
	SHRQ            $32, R12              \
	MOVQ            $0x0100000000000000, R13 \
	ORQ             R13, R12              \
	VPINSRQ         $1, R12, X4, X4       \
	VBROADCASTI32X4 (ROUNDS+0)(AX), Z16   \
	VPXORQ          X16, X4, X31          \
	VPSHUFB         X5, X4, X4            \
	VSHUFI32X4      $0, Z4, Z4, Z4        \
	VPADDD          ahead<>(SB), Z4, Z4   \
	VBROADCASTI32X4 (ROUNDS+16)(AX), Z17  \
	VBROADCASTI32X4 (ROUNDS+32)(AX), Z18  \
	VBROADCASTI32X4 (ROUNDS+48)(AX), Z19  \
	VBROADCASTI32X4 (ROUNDS+64)(AX), Z20  \
	VBROADCASTI32X4 (ROUNDS+80)(AX), Z21  \
	VBROADCASTI32X4 (ROUNDS+96)(AX), Z22  \
	VBROADCASTI32X4 (ROUNDS+112)(AX), Z23 \
	VBROADCASTI32X4 (ROUNDS+128)(AX), Z24 \
	VBROADCASTI32X4 (ROUNDS+144)(AX), Z25 \
	VBROADCASTI32X4 (ROUNDS+160)(AX), Z26 \
	VBROADCASTI32X4 (ROUNDS+176)(AX), Z27 \
	VBROADCASTI32X4 (ROUNDS+192)(AX), Z28 \
	VBROADCASTI32X4 (ROUNDS+208)(AX), Z29 \
	VBROADCASTI32X4 (ROUNDS+224)(AX), Z30 \
	FIRST(X17, X18) \
	FIRST(X19, X20) \
	FIRST(X21, X22) \
	FIRST(X23, X24) \
	FIRST(X25, X26) \
	FIRST(X27, X28) \
	VAESENC     X29, X31, X31 \
	VAESENCLAST X30, X31, X31 \
	CLEAR               \
	LEAQ STRETCH(AX), R8 \
	LEAQ 31(CX), R9     \
	ANDQ $~15, R9       \
	BEGIN

// PART makes the mask of the bytes that a register takes of the CX that are
// left, off of them taken by registers before it. R11 is 0, R12 all ones.
#define PART(off, k) \
	MOVQ    CX, R10       \
	SUBQ    $off, R10     \
	CMOVQLT R11, R10      \
	CMPQ    R10, $64      \
	CMOVQGT R13, R10      \
	BZHIQ   R10, R12, R10 \
	KMOVQ   R10, k

#define PARTS \
	XORL R11, R11   \
	MOVQ $-1, R12   \
	MOVL $64, R13   \
	PART(0, K1)     \
	PART(64, K2)    \
	PART(128, K3)   \
	PART(192, K4)

#define LOADPARTS(a, b, c, d) \
	VMOVDQU8.Z 0(SI), K1, a   \
	VMOVDQU8.Z 64(SI), K2, b  \
	VMOVDQU8.Z 128(SI), K3, c \
	VMOVDQU8.Z 192(SI), K4, d

#define STOREPARTS \
	VMOVDQU8 Z0, K1, 0(DI)   \
	VMOVDQU8 Z1, K2, 64(DI)  \
	VMOVDQU8 Z2, K3, 128(DI) \
	VMOVDQU8 Z3, K4, 192(DI)

#define XORALL(a, b, c, d) \
	VPXORQ a, Z0, Z0 \
	VPXORQ b, Z1, Z1 \
	VPXORQ c, Z2, Z2 \
	VPXORQ d, Z3, Z3

#define STOREALL \
	VMOVDQU64 Z0, 0(DI)   \
	VMOVDQU64 Z1, 64(DI)  \
	VMOVDQU64 Z2, 128(DI) \
	VMOVDQU64 Z3, 192(DI)

#define REVERSE(a, b, c, d) \
	VPSHUFB Z5, a, Z10 \
	VPSHUFB Z5, b, Z11 \
	VPSHUFB Z5, c, Z12 \
	VPSHUFB Z5, d, Z13

#define ADVANCE \
	ADDQ $256, SI \
	ADDQ $256, DI \
	SUBQ $256, CX

#define WIPE(a, b) VPXORQ a, a, a; VPXORQ b, b, b

// FINISH hashes the lengths, X10 (bits, and any hash so far), makes the tag and
// leaves no key in a register that VZEROUPPER does not clear.
#define FINISH \
	VMOVDQU    -16(R8), X6         \
	VPCLMULQDQ $0x00, X6, X10, X14 \
	VPCLMULQDQ $0x11, X6, X10, X15 \
	VPXORQ     Z14, Z7, Z7         \
	VPXORQ     Z15, Z9, Z9         \
	VPCLMULQDQ $0x01, X6, X10, X14 \
	VPCLMULQDQ $0x10, X6, X10, X15 \
	VPTERNLOGQ $0x96, Z14, Z15, Z8 \
	REDUCE                         \
	VPSHUFB    X5, X14, X14        \
	VPXORQ     X31, X14, X14       \
	VMOVDQU    X14, (DX)           \
	WIPE(Z16, Z17) \
	WIPE(Z18, Z19) \
	WIPE(Z20, Z21) \
	WIPE(Z22, Z23) \
	WIPE(Z24, Z25) \
	WIPE(Z26, Z27) \
	WIPE(Z28, Z29) \
	WIPE(Z30, Z31) \
	VZEROUPPER

// func sealWide(s *wideSchedule, dst, src *byte, n int, nonce *[12]byte, tag *[16]byte)
TEXT ·sealWide(SB), NOSPLIT, $0-48
	MOVQ s+0(FP), AX
	MOVQ dst+8(FP), DI
	MOVQ src+16(FP), SI
	MOVQ n+24(FP), CX
	MOVQ nonce+32(FP), R11
	MOVQ tag+40(FP), DX
	START
	CMPQ CX, $256
	JB   short
	STREAM
	XORALL(0(SI), 64(SI), 128(SI), 192(SI))
	STOREALL
	REVERSE(Z0, Z1, Z2, Z3)
	ADVANCE
	CMPQ CX, $256
	JB   rest
loop:
	STREAMHASH
	XORALL(0(SI), 64(SI), 128(SI), 192(SI))
	STOREALL
	REVERSE(Z0, Z1, Z2, Z3)
	ADVANCE
	NEXT(same)
	CMPQ CX, $256
	JAE  loop
rest:
	TESTQ CX, CX
	JZ   hash
	STREAMHASH
	JMP  tail
short:
	TESTQ CX, CX
	JZ   finish
	STREAM
tail:
	PARTS
	LOADPARTS(Z10, Z11, Z12, Z13)
	XORALL(Z10, Z11, Z12, Z13)
	STOREPARTS
	VMOVDQU8.Z Z0, K1, Z0
	VMOVDQU8.Z Z1, K2, Z1
	VMOVDQU8.Z Z2, K3, Z2
	VMOVDQU8.Z Z3, K4, Z3
	REVERSE(Z0, Z1, Z2, Z3)
	NEXT(whole)
hash:
	HASHALL
finish:
	MOVQ  n+24(FP), R10
	SHLQ  $3, R10
	VMOVQ R10, X10
	TESTQ R9, R9 // does a stretch have room for the lengths?
	JZ    lengths
	NEXT(lengths)
	FINISH
	RET

// func openWide(s *wideSchedule, dst, src *byte, n int, nonce *[12]byte, tag *[16]byte)
TEXT ·openWide(SB), NOSPLIT, $0-48
	MOVQ s+0(FP), AX
	MOVQ dst+8(FP), DI
	MOVQ src+16(FP), SI
	MOVQ n+24(FP), CX
	MOVQ nonce+32(FP), R11
	MOVQ tag+40(FP), DX
	START
	CMPQ CX, $256
	JB   rest
loop:
	VMOVDQU64 0(SI), Z10
	VMOVDQU64 64(SI), Z11
	VMOVDQU64 128(SI), Z12
	VMOVDQU64 192(SI), Z13
	REVERSE(Z10, Z11, Z12, Z13)
	NEXT(same)
	STREAMHASH
	XORALL(0(SI), 64(SI), 128(SI), 192(SI))
	STOREALL
	ADVANCE
	CMPQ CX, $256
	JAE  loop
rest:
	TESTQ CX, CX
	JZ   finish
	PARTS
	LOADPARTS(Z10, Z11, Z12, Z13)
	REVERSE(Z10, Z11, Z12, Z13)
	NEXT(whole)
	STREAMHASH
	LOADPARTS(Z10, Z11, Z12, Z13)
	XORALL(Z10, Z11, Z12, Z13)
	STOREPARTS
finish:
	MOVQ  n+24(FP), R10
	SHLQ  $3, R10
	VMOVQ R10, X10
	TESTQ R9, R9 // does a stretch have room for the lengths?
	JZ    lengths
	NEXT(lengths)
	FINISH
	RET
