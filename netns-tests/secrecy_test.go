package netnstests

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weave/netns-tests/lab"
)

// What containers say to each other is never on the wire in clear, with or
// without a password; the control shows that the sniffer would have found it:
//
//	c1 ── host1 ═══ host2 ── c2
//	            ▲            ▲
//	     wire: never   control: always
func TestNothingInClear(t *testing.T) {
	for what, args := range map[string][]string{"with a password": {"--password", "word"}, "without": nil} {
		t.Run(what, func(t *testing.T) {
			p := newPair(t, lab.Config{}, args...)
			const marker = "MARKER-that-nobody-may-read"
			wire, err := p.Under.Sniff("", marker)
			must(t, err)
			control, err := p.c2.Sniff("ethwe", marker)
			must(t, err)
			u, err := p.c2.EchoUDP("10.2.1.2:7")
			must(t, err)
			defer u.Close()
			s, err := p.c2.EchoTCP("10.2.1.2:7")
			must(t, err)
			defer s.Close()
			text := []byte(strings.Repeat(marker+" ", 30))
			for range 20 {
				must(t, p.c1.AskUDP("10.2.1.2:7", text, soon), p.c1.AskTCP("10.2.1.2:7", text, soon))
			}
			must(t, p.c1.Send("ethwe", "10.2.1.255:9", marker))
			eventually(t, soon, func() error {
				if control.Seen().Marked < 40 {
					return errors.New("the control has not seen the marker")
				}
				return nil
			})
			// the wire comes before the container, so the wire's sniffer had its chance
			in, out := control.Stop(), wire.Stop()
			if out.Marked > 0 || out.Frames < 40 || out.Lost > 0 {
				t.Errorf("on the wire: %d frames, %d with the marker, %d not seen; first: %q", out.Frames, out.Marked, out.Lost, out.Sample)
			}
			t.Logf("control: %d of %d frames with the marker; wire: %d of %d", in.Marked, in.Frames, out.Marked, out.Frames)
		})
	}
}

// Keys and passwords on disk are nobody else's business:
//
//	host1
func TestStateIsPrivate(t *testing.T) {
	h := newLab(t, lab.Config{Hosts: 1}).Hosts[0]
	launch(t, h, "--password", "word")
	must(t, privateFiles(h.StateDir))
}

// privateFiles is an error if others may read a file below dir; the log may be
// read by whoever may enter the directory.
func privateFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		log, _ := filepath.Match("weave.log*", d.Name())
		if info.Mode().Perm()&0o077 != 0 && !log {
			return fmt.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
}
