package netnstests

import (
	"errors"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

// sniffed is what of a marker is on the wire while something is done.
func sniffed(t *testing.T, l *lab.Lab, marker string, do func()) lab.Sniffed {
	t.Helper()
	wire, err := l.Under.Sniff("", marker)
	must(t, err)
	do()
	return wire.Stop()
}

// A kernel path in clear, as a daemon without a password leaves it, is taken away by one that comes after and has a password,
// before it knows anybody:
//
//	c1 ── host1 ═══ host2 ── c2
func TestFastdpPasswordLater(t *testing.T) {
	p := newPair(t, lab.Config{})
	onFast(t, p.Hosts...)
	const marker = "MARKER-of-a-time-with-a-password"
	in, err := p.c2.Listen("0.0.0.0:7003")
	must(t, err)
	defer in.Close()
	says := func() { must(t, p.c1.Send("", "10.2.1.2:7003", marker)) }
	eventually(t, soon, func() error { // the first frames may still go where the bridge had learnt their receiver before
		control := sniffed(t, p.Lab, marker, func() {
			says()
			_, err := in.Expect(marker, soon)
			must(t, err)
		})
		if control.Marked == 0 {
			return errors.New("the control was not seen")
		}
		return nil
	})
	run(t, p.Hosts[0], "stop")
	run(t, p.Hosts[1], "stop") // the kernels go on
	sniffed(t, p.Lab, marker, func() {
		says()
		_, err := in.Expect(marker, soon)
		must(t, err)
	})
	launch(t, p.Hosts[0], "--password", "word")
	seen := sniffed(t, p.Lab, marker, func() {
		if err := lab.Steadily(3*time.Second, func() error {
			says()
			if _, err := in.Expect(marker, 100*time.Millisecond); err == nil {
				return errors.New("it came")
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	if seen.Marked > 0 {
		t.Errorf("%d frames in clear", seen.Marked)
	}
}
