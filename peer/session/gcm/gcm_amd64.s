#include "textflag.h"

// AES-256 in counter mode and GHASH on pairs of blocks, one per half of a YMM
// register.
//
// GHASH works on blocks with their bytes reversed. Such a number stands for the
// polynomial whose coefficients are its bits read from the top, so that products
// come out one bit too low; a hash key multiplied by x beforehand (fillPowers)
// makes up for it. Products of several blocks with descending powers of the key
// are added before they are reduced, which is done once, modulo
// x^128 + x^7 + x^2 + x + 1, in two steps of 64 bits (Gueron and Kounavis, "Intel
// Carry-Less Multiplication Instruction and its Usage for Computing the GCM
// Mode").

// Registers that keep their meaning:
//	AX schedule   Y5 mask that reverses bytes   Y6 the reduction polynomial
//	Y7, Y8, Y9    low, middle and high part of the sum of products
//	Y11, Y12      scratch

#define POWERS 480

DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
DATA reverse<>+16(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+24(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $32

DATA polynomial<>+0(SB)/8, $0x0000000000000001
DATA polynomial<>+8(SB)/8, $0xc200000000000000
DATA polynomial<>+16(SB)/8, $0x0000000000000001
DATA polynomial<>+24(SB)/8, $0xc200000000000000
GLOBL polynomial<>(SB), RODATA|NOPTR, $32

// one in the upper half only; two in both
DATA second<>+0(SB)/8, $0
DATA second<>+8(SB)/8, $0
DATA second<>+16(SB)/8, $1
DATA second<>+24(SB)/8, $0
GLOBL second<>(SB), RODATA|NOPTR, $32

DATA two<>+0(SB)/8, $2
DATA two<>+8(SB)/8, $0
DATA two<>+16(SB)/8, $2
DATA two<>+24(SB)/8, $0
GLOBL two<>(SB), RODATA|NOPTR, $32

// ROUND applies the round key at offset k to the four pairs of blocks.
#define ROUND(k) \
	VMOVDQU k(AX), Y10    \
	VAESENC Y10, Y0, Y0 \
	VAESENC Y10, Y1, Y1 \
	VAESENC Y10, Y2, Y2 \
	VAESENC Y10, Y3, Y3

// STREAM fills Y0 to Y3 with the encryption of eight counter blocks and moves
// the counters in Y4 on; Y15 is two.
#define STREAM \
	VPSHUFB Y5, Y4, Y0    \
	VPADDD  Y15, Y4, Y4   \
	VPSHUFB Y5, Y4, Y1    \
	VPADDD  Y15, Y4, Y4   \
	VPSHUFB Y5, Y4, Y2    \
	VPADDD  Y15, Y4, Y4   \
	VPSHUFB Y5, Y4, Y3    \
	VPADDD  Y15, Y4, Y4   \
	VMOVDQU 0(AX), Y10    \
	VPXOR   Y10, Y0, Y0   \
	VPXOR   Y10, Y1, Y1   \
	VPXOR   Y10, Y2, Y2   \
	VPXOR   Y10, Y3, Y3   \
	ROUND(32)             \
	ROUND(64)             \
	ROUND(96)             \
	ROUND(128)            \
	ROUND(160)            \
	ROUND(192)            \
	ROUND(224)            \
	ROUND(256)            \
	ROUND(288)            \
	ROUND(320)            \
	ROUND(352)            \
	ROUND(384)            \
	ROUND(416)            \
	VMOVDQU 448(AX), Y10  \
	VAESENCLAST Y10, Y0, Y0 \
	VAESENCLAST Y10, Y1, Y1 \
	VAESENCLAST Y10, Y2, Y2 \
	VAESENCLAST Y10, Y3, Y3

// CLEAR empties the sum of products.
#define CLEAR \
	VPXOR Y7, Y7, Y7 \
	VPXOR Y8, Y8, Y8 \
	VPXOR Y9, Y9, Y9

// ADD adds the products of the pair in b with the powers at offset p.
#define ADD(b, p) \
	VMOVDQU    (POWERS+p)(AX), Y13  \
	VPCLMULQDQ $0x00, Y13, b, Y11   \
	VPCLMULQDQ $0x01, Y13, b, Y12   \
	VPXOR      Y11, Y7, Y7          \
	VPXOR      Y12, Y8, Y8          \
	VPCLMULQDQ $0x10, Y13, b, Y11   \
	VPCLMULQDQ $0x11, Y13, b, Y12   \
	VPXOR      Y11, Y8, Y8          \
	VPXOR      Y12, Y9, Y9

// REDUCE leaves the sum of products, reduced, in either half of Y9.
#define REDUCE \
	VPCLMULQDQ $0x01, Y7, Y6, Y11 \
	VPSHUFD    $0x4e, Y7, Y7      \
	VPXOR      Y11, Y8, Y8        \
	VPXOR      Y7, Y8, Y8         \
	VPCLMULQDQ $0x01, Y8, Y6, Y11 \
	VPSHUFD    $0x4e, Y8, Y8      \
	VPXOR      Y11, Y9, Y9        \
	VPXOR      Y8, Y9, Y9

// FOLD adds the halves of Y9; the hash is the lower half of Y14, the upper is 0.
#define FOLD \
	VEXTRACTI128 $1, Y9, X11 \
	VPXOR        X11, X9, X14

// func features() uint32
TEXT ·features(SB), NOSPLIT, $0-4
	XORL AX, AX
	XORL CX, CX
	CPUID
	CMPL AX, $7
	JB   none
	MOVL $7, AX
	XORL CX, CX
	CPUID
	MOVL CX, ret+0(FP)
	RET
none:
	MOVL $0, ret+0(FP)
	RET

// SPREAD adds each 32-bit word of r to all that follow; X3 is scratch.
#define SPREAD(r) \
	VPSLLDQ $4, r, X3 \
	VPXOR   X3, r, r  \
	VPSLLDQ $4, X3, X3 \
	VPXOR   X3, r, r  \
	VPSLLDQ $4, X3, X3 \
	VPXOR   X3, r, r

#define KEEP(r, k) \
	VMOVDQU r, k(AX) \
	VMOVDQU r, (k+16)(AX)

#define EVEN(rcon, k) \
	VAESKEYGENASSIST $rcon, X1, X2 \
	VPSHUFD $0xff, X2, X2 \
	SPREAD(X0)            \
	VPXOR   X2, X0, X0    \
	KEEP(X0, k)

#define ODD(k) \
	VAESKEYGENASSIST $0, X0, X2 \
	VPSHUFD $0xaa, X2, X2 \
	SPREAD(X1)            \
	VPXOR   X2, X1, X1    \
	KEEP(X1, k)

// func expand(s *schedule, key *[32]byte)
TEXT ·expand(SB), NOSPLIT, $0-16
	MOVQ    s+0(FP), AX
	MOVQ    key+8(FP), SI
	VMOVDQU 0(SI), X0
	VMOVDQU 16(SI), X1
	KEEP(X0, 0)
	KEEP(X1, 32)
	EVEN(0x01, 64)
	ODD(96)
	EVEN(0x02, 128)
	ODD(160)
	EVEN(0x04, 192)
	ODD(224)
	EVEN(0x08, 256)
	ODD(288)
	EVEN(0x10, 320)
	ODD(352)
	EVEN(0x20, 384)
	ODD(416)
	EVEN(0x40, 448)
	VPXOR   X0, X0, X0
	VPXOR   X1, X1, X1
	VPXOR   X2, X2, X2
	VPXOR   X3, X3, X3
	RET

#define ONE(k) VAESENC k(AX), X0, X0
#define ENCRYPT \
	VPXOR 0(AX), X0, X0 \
	ONE(32)  \
	ONE(64)  \
	ONE(96)  \
	ONE(128) \
	ONE(160) \
	ONE(192) \
	ONE(224) \
	ONE(256) \
	ONE(288) \
	ONE(320) \
	ONE(352) \
	ONE(384) \
	ONE(416) \
	VAESENCLAST 448(AX), X0, X0

// func encrypt(s *schedule, dst, src *[16]byte)
TEXT ·encrypt(SB), NOSPLIT, $0-24
	MOVQ    s+0(FP), AX
	MOVQ    dst+8(FP), DI
	MOVQ    src+16(FP), SI
	VMOVDQU (SI), X0
	ENCRYPT
	VMOVDQU X0, (DI)
	RET

// func multiply(dst, a, b *[16]byte)
TEXT ·multiply(SB), NOSPLIT, $0-24
	MOVQ       dst+0(FP), DI
	MOVQ       a+8(FP), SI
	MOVQ       b+16(FP), DX
	VMOVDQU    polynomial<>(SB), Y6
	VMOVDQU    (SI), X0
	VMOVDQU    (DX), X1
	VPCLMULQDQ $0x00, X1, X0, X7
	VPCLMULQDQ $0x01, X1, X0, X8
	VPCLMULQDQ $0x10, X1, X0, X9
	VPXOR      X9, X8, X8
	VPCLMULQDQ $0x11, X1, X0, X9
	REDUCE
	VMOVDQU    X9, (DI)
	VZEROUPPER
	RET

// LOAD sets up the registers of a loop: BX points at the counter, DX at the hash.
#define LOAD \
	VMOVDQU        reverse<>(SB), Y5   \
	VMOVDQU        polynomial<>(SB), Y6 \
	VMOVDQU        two<>(SB), Y15      \
	VBROADCASTI128 (BX), Y4            \
	VPADDD         second<>(SB), Y4, Y4 \
	VMOVDQU        (DX), X14

// STORE writes back what LOAD read.
#define STORE \
	VMOVDQU X4, (BX)  \
	VMOVDQU X14, (DX) \
	VZEROUPPER

// HASHED adds the pair in b, a block pair as it is in memory.
#define HASHED(b, p) \
	VPSHUFB Y5, b, b \
	ADD(b, p)

// func seal(s *schedule, dst, src *byte, n int, counter, ghash *[16]byte)
TEXT ·seal(SB), NOSPLIT, $0-48
	MOVQ    s+0(FP), AX
	MOVQ    dst+8(FP), DI
	MOVQ    src+16(FP), SI
	MOVQ    n+24(FP), CX
	MOVQ    counter+32(FP), BX
	MOVQ    ghash+40(FP), DX
	LOAD
sealing:
	STREAM
	VPXOR   0(SI), Y0, Y0
	VPXOR   32(SI), Y1, Y1
	VPXOR   64(SI), Y2, Y2
	VPXOR   96(SI), Y3, Y3
	VMOVDQU Y0, 0(DI)
	VMOVDQU Y1, 32(DI)
	VMOVDQU Y2, 64(DI)
	VMOVDQU Y3, 96(DI)
	CLEAR
	HASHED(Y3, 112)
	HASHED(Y2, 80)
	HASHED(Y1, 48)
	VPSHUFB Y5, Y0, Y0
	VPXOR   Y14, Y0, Y0
	ADD(Y0, 16)
	REDUCE
	FOLD
	ADDQ    $128, SI
	ADDQ    $128, DI
	SUBQ    $128, CX
	JNZ     sealing
	STORE
	RET

// func open(s *schedule, dst, src *byte, n int, counter, ghash *[16]byte)
TEXT ·open(SB), NOSPLIT, $0-48
	MOVQ    s+0(FP), AX
	MOVQ    dst+8(FP), DI
	MOVQ    src+16(FP), SI
	MOVQ    n+24(FP), CX
	MOVQ    counter+32(FP), BX
	MOVQ    ghash+40(FP), DX
	LOAD
opening:
	CLEAR
	VMOVDQU 96(SI), Y3
	HASHED(Y3, 112)
	VMOVDQU 64(SI), Y2
	HASHED(Y2, 80)
	VMOVDQU 32(SI), Y1
	HASHED(Y1, 48)
	VMOVDQU 0(SI), Y0
	VPSHUFB Y5, Y0, Y0
	VPXOR   Y14, Y0, Y0
	ADD(Y0, 16)
	STREAM
	VPXOR   0(SI), Y0, Y0
	VPXOR   32(SI), Y1, Y1
	VPXOR   64(SI), Y2, Y2
	VPXOR   96(SI), Y3, Y3
	VMOVDQU Y0, 0(DI)
	VMOVDQU Y1, 32(DI)
	VMOVDQU Y2, 64(DI)
	VMOVDQU Y3, 96(DI)
	REDUCE
	FOLD
	ADDQ    $128, SI
	ADDQ    $128, DI
	SUBQ    $128, CX
	JNZ     opening
	STORE
	RET

// func keystream(s *schedule, dst *[144]byte, counter, first *[16]byte)
TEXT ·keystream(SB), NOSPLIT, $0-32
	MOVQ           s+0(FP), AX
	MOVQ           dst+8(FP), DI
	MOVQ           counter+16(FP), BX
	MOVQ           first+24(FP), DX
	VMOVDQU        reverse<>(SB), Y5
	VMOVDQU        two<>(SB), Y15
	VBROADCASTI128 (BX), Y4
	VPADDD         second<>(SB), Y4, Y4
	STREAM
	VMOVDQU        Y0, 0(DI)
	VMOVDQU        Y1, 32(DI)
	VMOVDQU        Y2, 64(DI)
	VMOVDQU        Y3, 96(DI)
	VMOVDQU        (DX), X0
	VPSHUFB        X5, X0, X0
	ENCRYPT
	VMOVDQU        X0, 128(DI)
	VZEROUPPER
	RET

// func hash(s *schedule, ghash *[16]byte, data *byte, blocks int)
TEXT ·hash(SB), NOSPLIT, $0-32
	MOVQ    s+0(FP), AX
	MOVQ    ghash+8(FP), DX
	MOVQ    data+16(FP), SI
	MOVQ    blocks+24(FP), CX
	VMOVDQU reverse<>(SB), Y5
	VMOVDQU polynomial<>(SB), Y6
	CLEAR
	VMOVDQU (DX), X14
	MOVQ    CX, BX
	NEGQ    BX
	ADDQ    $9, BX                 // the first block meets H^blocks
	SHLQ    $4, BX
	LEAQ    POWERS(AX)(BX*1), BX
hashing:
	VMOVDQU    (SI), X0
	VPSHUFB    X5, X0, X0
	VPXOR      X14, X0, X0
	VPXOR      X14, X14, X14       // only the first takes the hash so far
	VMOVDQU    (BX), X13
	VPCLMULQDQ $0x00, X13, X0, X11
	VPCLMULQDQ $0x01, X13, X0, X12
	VPXOR      X11, X7, X7
	VPXOR      X12, X8, X8
	VPCLMULQDQ $0x10, X13, X0, X11
	VPCLMULQDQ $0x11, X13, X0, X12
	VPXOR      X11, X8, X8
	VPXOR      X12, X9, X9
	ADDQ       $16, SI
	ADDQ       $16, BX
	DECQ       CX
	JNZ        hashing
	REDUCE
	VMOVDQU    X9, (DX)
	VZEROUPPER
	RET
