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

// What containers say to each other is never on the wire in clear, with a
// password, or without one and with no kernel path; the control shows that the sniffer would have found it:
//
//	c1 ── host1 ═══ host2 ── c2
//	            ▲            ▲
//	     wire: never   control: always
func TestNothingInClear(t *testing.T) {
	for what, args := range map[string][]string{"with a password": {"--password", "word"}, "without": {"--no-fastdp"}} {
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

// Data goes in clear only between hosts that trust each other's subnet, both of them:
//
//	c1 ── host1 ═══ host2 ── c2     host2 trusts host1; host1 trusts host2 or not
func TestTrustedSubnets(t *testing.T) {
	for _, c := range []struct {
		trusts, word string
		clear        bool
	}{{"10.99.0.0/24,192.0.2.0/24", "unencrypted", true}, {"192.0.2.0/24", "encrypted", false}} {
		t.Run(c.word, func(t *testing.T) {
			l := newLab(t, lab.Config{Hosts: 2})
			h := l.Hosts
			launch(t, h[0], "--no-fastdp", "--password", "word", "--trusted-subnets", c.trusts)
			launch(t, h[1], h[0].IP, "--no-fastdp", "--password", "word", "--trusted-subnets", "10.99.0.0/24")
			for _, x := range h { // by IPv4 only, which is what the subnets are of
				must(t, x.Sysctl("net/ipv6/conf/all/disable_ipv6", "1"))
			}
			waitMesh(t, h...)
			p := joinPair(t, l)
			shows(t, h[0], settle, "established "+c.word+" ", fmt.Sprintf("encrypted=%v", !c.clear))
			const marker = "MARKER-for-the-trusting"
			wire, err := p.Under.Sniff("", marker)
			must(t, err)
			u, err := p.c2.EchoUDP("10.2.1.2:7")
			must(t, err)
			defer u.Close()
			for range 20 {
				must(t, p.c1.AskUDP("10.2.1.2:7", []byte(marker), soon))
			}
			if seen := wire.Stop(); (seen.Marked > 0) != c.clear {
				t.Errorf("%d of %d frames on the wire with the marker", seen.Marked, seen.Frames)
			}
			matches(t, h[1], nil, `TrustedSubnets: 10\.99\.0\.0/24\n`)
		})
	}
	l := newLab(t, lab.Config{Hosts: 1})
	refused(t, l.Hosts[0], 1, "invalid --trusted-subnets", "launch", "--trusted-subnets", "10.0.0.0/8,nonsense")
	refused(t, l.Hosts[0], 1, "invalid --advertise-address", "launch", "--advertise-address", "0.0.0.0")
}
