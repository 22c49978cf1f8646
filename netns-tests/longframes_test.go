package netnstests

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weave/netns-tests/lab"
)

// A stream arrives in packets longer than 64 KB where the kernel knows such, but not while somebody in the container looks at
// packets; and whole either way:
//
//	c1 ── host1 ═══ host2 ── c2
func TestLongFrames(t *testing.T) {
	p := newPair(t, lab.Config{}, "--no-fastdp")
	long := func() int {
		n, _ := metric(t, p.Hosts[1], "weave_long_frames_total")
		return n
	}
	stream := func() (made int) {
		before := long()
		_, err := lab.Transfer(p.c1.NS, p.c2.NS, "10.2.1.2:5001", 64<<20, time.Minute)
		must(t, err)
		return long() - before
	}
	some := func() error {
		if stream() == 0 {
			return errors.New("no frame was longer than 64 KB")
		}
		return nil
	}
	none := func() error {
		if n := stream(); n > 0 {
			return fmt.Errorf("%d frames were longer than 64 KB", n)
		}
		return nil
	}
	if !bigTCP(t) {
		stream()
		must(t, none())
		return
	}
	eventually(t, settle, some)
	tap, err := p.c2.OpenTap("ethwe")
	must(t, err)
	defer tap.Close()
	eventually(t, settle, none)
	must(t, none())
	must(t, tap.Close())
	eventually(t, settle, some)
	echo, err := p.c2.EchoTCP("10.2.1.2:7")
	must(t, err)
	defer echo.Close()
	must(t, p.c1.AskTCP("10.2.1.2:7", bytes.Repeat([]byte("0123456789abcdef"), 1<<16), soon))
}

// bigTCP tells whether this is Linux 6.3 or later.
func bigTCP(t *testing.T) bool {
	var name unix.Utsname
	must(t, unix.Uname(&name))
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	must(t, err)
	return major > 6 || major == 6 && minor >= 3
}
