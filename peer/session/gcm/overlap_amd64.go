package gcm

import "unsafe"

// checkOverlap panics unless out and in are apart or begin at the same byte, as
// cipher.AEAD demands of its callers.
func checkOverlap(out, in []byte) {
	if len(out) == 0 || len(in) == 0 || &out[0] == &in[0] {
		return
	}
	a, b := uintptr(unsafe.Pointer(&out[0])), uintptr(unsafe.Pointer(&in[0]))
	if a < b+uintptr(len(in)) && b < a+uintptr(len(out)) {
		panic("gcm: input and output overlap")
	}
}
