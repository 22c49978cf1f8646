package peer

import "math/bits"

// Ample is a capacity for lists of n elements that are made anew whenever something
// changes in the network: the next power of two, and for long ones the next thousand.
// While a network forms, n takes every value. Each size class that was ever in use costs
// Go's runtime some 15 KB for good, however few objects there were: it keeps sets of
// pages by class, whose blocks are never given back (runtime/mspanset.go).
func Ample(n int) int {
	const long = 1024
	switch {
	case n <= 0:
		return 0
	case n <= long:
		return 1 << bits.Len(uint(n-1))
	}
	return (n + long - 1) / long * long
}
