package netlink

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"

	"golang.org/x/sys/unix"

	"weave/runtime"
)

// rehearsals are made-up pairs of hosts (RFC 5737, RFC 3849).
var rehearsals = [2]runtime.Shield{
	{Local: netip.MustParseAddr("192.0.2.1"), Peer: netip.MustParseAddr("192.0.2.2")},
	{Local: netip.MustParseAddr("2001:db8::1"), Peer: netip.MustParseAddr("2001:db8::2")},
}

// ShieldSupport finds out whether this kernel can do what Shield asks of it: it does so once, in a namespace of its own that
// is gone afterwards. That also has the kernel load its modules. What it says is for users.
func (h *Host) ShieldSupport() runtime.ShieldSupport {
	s, err := newSpace()
	if err != nil {
		reason := fmt.Sprintf("cannot try it: %v", err)
		return runtime.ShieldSupport{IPv4: reason, IPv6: reason}
	}
	defer s.close()
	support := runtime.ShieldSupport{IPv4: s.rehearse(rehearsals[0]), IPv6: s.rehearse(rehearsals[1])}
	if support.IPv4 == "" {
		support.IPv4 = h.space.exempt("ipv4")
	}
	if support.IPv6 == "" {
		support.IPv6 = h.space.exempt("ipv6")
	}
	return support
}

// rehearse says why a Shield cannot be made in a namespace; nothing if it can.
func (s *space) rehearse(shield runtime.Shield) string {
	x, err := s.openXfrm("rehearsal")
	if missing(err) {
		return "the kernel has no IPsec (CONFIG_XFRM_USER)"
	}
	if err != nil {
		return err.Error()
	}
	defer x.Close()
	shield.In, shield.Out = []runtime.ESPKey{{SPI: espReserved}}, &runtime.ESPKey{SPI: espReserved}
	for _, step := range runtime.PlanShields(1, []runtime.Shield{shield}, runtime.ShieldsSeen{}) {
		if err := x.step(step, 1); err != nil {
			return whyNot(step, err)
		}
	}
	return ""
}

// espReserved is the first SPI that anybody may use.
const espReserved = 256

// whyNot says what the kernel lacks, by the error of a step.
func whyNot(step runtime.ShieldStep, err error) string {
	module := "esp4"
	if step.Peer.Is6() {
		module = "esp6"
	}
	switch {
	case step.Op != runtime.AddState:
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Sprintf("the kernel has no ESP (module %s)", module)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOENT):
		return fmt.Sprintf("the kernel has no AES-GCM for ESP (%s)", espCipher)
	}
	return fmt.Sprintf("the kernel refuses (%s): %v", step, err)
}

// exempt names a setting that keeps an interface's packets from IPsec; nothing if there is none. The loopback always has it.
func (s *space) exempt(family string) string {
	var found string
	err := s.run(func() error {
		keys, _ := filepath.Glob("/proc/sys/net/" + family + "/conf/*/disable_*") // the pattern is right: there is no other error
		for _, key := range keys {
			device, name := filepath.Base(filepath.Dir(key)), filepath.Base(key)
			if name != "disable_xfrm" && name != "disable_policy" || device == "lo" {
				continue
			}
			if value, err := os.ReadFile(key); err == nil && strings.TrimSpace(string(value)) != "0" {
				found = fmt.Sprintf("%s takes packets out of IPsec; write 0 to it", key)
			}
		}
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return found
}

// newSpace makes a network namespace, which is gone once it is closed.
func newSpace() (*space, error) {
	var s *space
	done := make(chan error, 1)
	go func() {
		goruntime.LockOSThread() // and never unlocked: the thread dies with its namespace entered
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			s, err = openSpace("/proc/thread-self/ns/net")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return s, nil
}
