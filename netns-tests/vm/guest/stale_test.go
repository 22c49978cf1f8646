package guest

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strconv"
	"testing"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// xfrmStats are the counters of IPsec that are not zero.
func (e *end) xfrmStats() map[string]int {
	e.t.Helper()
	out := map[string]int{}
	must(e.t, e.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/xfrm_stat")
		for line := range bytes.Lines(text) {
			f := bytes.Fields(line)
			n, bad := strconv.Atoi(string(f[1]))
			if err = errors.Join(err, bad); n != 0 {
				out[string(f[0])] = n
			}
		}
		return err
	}))
	return out
}

func (e *end) xfrmStat(name string) int {
	e.t.Helper()
	return e.xfrmStats()[name]
}

// What a daemon leaves that died is removed by the next one that says what it wants, and by a reset; what others have made
// stays, be it another daemon's.
func TestStale(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *pair) {
		e := p.a
		must(t, e.foreign())
		e.has(1, 1)
		another := openHost(t, e.Host, "weave2")
		a, _ := handshake(t)
		s := runtime.Shield{Local: e.local, Peer: e.peer, In: []runtime.ESPKey{a.In}, Out: &a.Out}
		_, err := another.Shield(vxlanPort+1, []runtime.Shield{s})
		must(t, err)
		e.has(3, 3)
		died := openHost(t, e.Host, "weave")
		a, _ = handshake(t)
		s.In, s.Out = []runtime.ESPKey{a.In}, &a.Out
		_, err = died.Shield(vxlanPort, []runtime.Shield{s})
		must(t, err)
		e.has(5, 5)
		e.shield() // still wanted, with keys to come
		e.has(3, 5)
		_, err = died.Shield(vxlanPort+2, []runtime.Shield{s}) // on another port now
		must(t, err)
		e.has(5, 5)
		e.unshield()
		e.has(3, 3)
		_, err = died.Shield(vxlanPort, []runtime.Shield{s})
		must(t, err)
		must(t, e.kernel.Reset())
		e.has(3, 3)
		must(t, another.Reset())
		e.has(1, 1)
	})
}

// foreign makes a state and a policy that are nobody's of ours.
func (e *end) foreign() error {
	return e.Do(func() error {
		h, err := vnl.NewHandle(unix.NETLINK_XFRM)
		if err != nil {
			return err
		}
		defer h.Close()
		err = h.XfrmStateAdd(&vnl.XfrmState{
			Src: e.local.AsSlice(), Dst: e.peer.AsSlice(), Spi: 0x1234, Reqid: 7, Proto: vnl.XFRM_PROTO_ESP, Mode: vnl.XFRM_MODE_TRANSPORT,
			Aead: &vnl.XfrmStateAlgo{Name: "rfc4106(gcm(aes))", Key: bytes.Repeat([]byte{1}, 36), ICVLen: 128},
		})
		if err != nil {
			return err
		}
		_, all, err := net.ParseCIDR(map[bool]string{true: "0.0.0.0/0", false: "::/0"}[e.local.Is4()])
		if err != nil {
			return err
		}
		return h.XfrmPolicyAdd(&vnl.XfrmPolicy{
			Src: all, Dst: all, Dir: vnl.XFRM_DIR_OUT, Proto: unix.IPPROTO_UDP, DstPort: 9999, Priority: 5,
			Tmpls: []vnl.XfrmPolicyTmpl{{Src: all.IP, Dst: all.IP, Proto: vnl.XFRM_PROTO_ESP, Mode: vnl.XFRM_MODE_TRANSPORT, Reqid: 7}},
		})
	})
}
