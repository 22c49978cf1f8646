package control

// spawn runs f in a goroutine that Run waits for.
//
// Go keeps the stacks of goroutines that ended, for those to come: up to 64 for each processor, of 4 KB mostly, but only
// stacks as long as new ones are (gfput in runtime/proc.go). When many peers join at once, or answer at once, there are
// as many goroutines for a moment, and as many stacks for good. So ours have theirs grow before they end.
func (t *Transport) spawn(f func()) {
	t.group.Go(func() {
		f()
		growStack()
	})
}

// longerStack is more bytes than goroutines begin with.
const longerStack = 8 << 10

//go:noinline
func growStack() byte {
	var room [longerStack]byte
	return last(&room)
}

//go:noinline
func last(room *[longerStack]byte) byte { return room[len(room)-1] }
