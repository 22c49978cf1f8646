package node

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weave/runtime"
	"weave/runtime/netlink"
	"weave/stack/filter"
)

// kernelEnd is a namespace on a bridge, with a socket that sends and sees frames.
type kernelEnd struct {
	path string
	mac  net.HardwareAddr
	fd   int
}

// inNamespace makes a network namespace and calls fn in it.
func inNamespace(t testing.TB, fn func() error) string {
	t.Helper()
	type made struct {
		file *os.File
		err  error
	}
	done := make(chan made, 1)
	go func() {
		goruntime.LockOSThread() // and never unlocked: the thread ends with its namespace entered
		m := made{err: unix.Unshare(unix.CLONE_NEWNET)}
		if m.err == nil {
			m.file, m.err = os.Open("/proc/thread-self/ns/net")
		}
		if m.err == nil {
			m.err = fn()
		}
		done <- m
	}()
	m := <-done
	if m.err != nil {
		t.Skip("network namespaces need root:", m.err)
	}
	t.Cleanup(func() { m.file.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), m.file.Fd())
}

// visit calls fn in a namespace.
func visit(t testing.TB, path string, fn func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		goruntime.LockOSThread()
		f, err := os.Open(path)
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
			f.Close()
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func openEnd(t testing.TB, h *netlink.Host, addrs ...string) *kernelEnd {
	t.Helper()
	e := &kernelEnd{path: inNamespace(t, func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0) // nothing of its own
	})}
	target, err := h.Resolve(e.path)
	if err != nil {
		t.Fatal(err)
	}
	at := runtime.Attachment{ID: "test", Target: target, MAC: newMAC()}
	for _, a := range addrs {
		at.Addresses = append(at.Addresses, netip.MustParsePrefix(a))
	}
	if _, err := h.Attach(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	e.mac = at.MAC[:]
	visit(t, e.path, func() error {
		link, err := net.InterfaceByName(runtime.Inner)
		if err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
		if e.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		wait := unix.NsecToTimeval((5 * time.Second).Nanoseconds())
		return errorsJoin(unix.Bind(e.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}),
			unix.SetsockoptTimeval(e.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
			unix.SetsockoptInt(e.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	})
	t.Cleanup(func() { unix.Close(e.fd) })
	return e
}

func errorsJoin(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// crosses sends a frame and after it one that always passes, and tells whether the first arrived.
func crosses(t *testing.T, from, to *kernelEnd, frame []byte, number int) bool {
	t.Helper()
	marker := slices.Concat(to.mac, from.mac, []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 9}, make([]byte, 16))
	marker = binary.BigEndian.AppendUint32(marker, uint32(number))
	for _, f := range [][]byte{frame, marker} {
		if _, err := unix.Write(from.fd, f); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 4096)
	arrived := false
	for {
		n, err := unix.Read(to.fd, buf)
		if err == unix.EINTR { // with a time limit, reading is not restarted after a signal of Go's scheduler (signal(7))
			continue
		}
		if err != nil {
			t.Fatalf("the frame that always passes did not come: %v", err)
		}
		if bytes.Equal(buf[:n], marker) {
			return arrived
		}
		// The kernel takes a tag out of what it shows.
		arrived = arrived || bytes.Equal(buf[:n], frame) || n > 30 && bytes.HasSuffix(frame, buf[14:n])
	}
}

// forge makes frames of all kinds, most of them of a few flows.
type forge struct {
	rng   *rand.Rand
	addrs [2][2]string // of the two ends, by family
}

func (f *forge) pick(list ...uint16) uint16 { return list[f.rng.IntN(len(list))] }

// upper is what follows the IP header.
func (f *forge) upper(v6 bool) (proto byte, body []byte) {
	switch f.rng.IntN(12) {
	case 0, 1, 2, 3, 4:
		b := make([]byte, 20)
		binary.BigEndian.PutUint16(b, f.pick(80, 81, 5000))
		binary.BigEndian.PutUint16(b[2:], f.pick(80, 81, 5000))
		b[12], b[13] = 0x50, byte(f.pick(2, 0x10, 0x10, 0x10, 0x11, 4))
		return 6, b
	case 5, 6:
		b := make([]byte, 16)
		binary.BigEndian.PutUint16(b, f.pick(53, 80, 81, 67, 68, 546, 547))
		binary.BigEndian.PutUint16(b[2:], f.pick(53, 80, 81, 67, 68, 546, 547))
		return 17, b
	case 7, 8:
		kind := f.pick(0, 8)
		if v6 {
			kind = f.pick(128, 129)
		}
		return f.icmp(v6), []byte{byte(kind), 0, 0, 0, 0, byte(f.pick(1, 2)), 0, 1, 0, 0}
	case 9:
		kind := f.pick(3, 11, 5, 13)
		if v6 {
			kind = f.pick(1, 2, 3, 134, 135, 143, 200)
		}
		about, _ := f.packet(v6, f.rng.IntN(2), true)
		return f.icmp(v6), append([]byte{byte(kind), 1, 0, 0, 0, 0, 0, 0}, about...)
	case 10:
		return byte(f.pick(47, 50, 132, 2)), []byte{0, 80, 0, 81, 1, 2, 3, 4, 0, 0, 0, 0}
	}
	return byte(f.pick(6, 17, 132)), []byte{0, 80, 0}[:f.rng.IntN(4)]
}

func (f *forge) icmp(v6 bool) byte {
	if v6 {
		return 58
	}
	return 1
}

// packet is an IP packet from one of the ends to the other.
func (f *forge) packet(v6 bool, from int, plain bool) ([]byte, uint16) {
	src, dst := netip.MustParseAddr(f.addrs[from][b2i(v6)]), netip.MustParseAddr(f.addrs[1-from][b2i(v6)])
	var proto byte
	var body []byte
	for proto, body = f.upper(v6); plain && (proto == 1 || proto == 58) && len(body) > 10; proto, body = f.upper(v6) {
	}
	odd := f.rng.IntN(6)
	if plain {
		odd = 9
	}
	if !v6 {
		h := []byte{0x45, 0, 0, 0, 0, byte(f.pick(1, 2)), 0, 0, 64, proto, 0, 0}
		if odd == 0 {
			binary.BigEndian.PutUint16(h[6:], f.pick(0x2000, 0x2000, 2, 0x2003, 0x4000))
		}
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
		h = append(append(h, src.AsSlice()...), dst.AsSlice()...)
		var sum uint32
		for i := 0; i < 20; i += 2 {
			sum += uint32(binary.BigEndian.Uint16(h[i:]))
		}
		binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
		return append(h, body...), unix.ETH_P_IP
	}
	switch odd {
	case 0, 1: // a fragment
		head := []byte{proto, 0, 0, 0, 0, 0, 0, byte(f.pick(1, 2))}
		binary.BigEndian.PutUint16(head[2:], f.pick(1, 1, 16, 0))
		proto, body = 44, append(head, body...)
	case 2: // options
		for range f.rng.IntN(3) + 1 {
			proto, body = byte(f.pick(60, 60, 43)), append([]byte{proto, 0, 1, 4, 0, 0, 0, 0}, body...)
		}
	}
	h := []byte{0x60, 0, 0, 0, 0, byte(len(body)), proto, 64}
	return slices.Concat(h, src.AsSlice(), dst.AsSlice(), body), unix.ETH_P_IPV6
}

// frame is a packet in a frame, or something odd.
func (f *forge) frame(from, to *kernelEnd, number int) []byte {
	packet, kind := f.packet(f.rng.IntN(2) == 1, number, false)
	frame := binary.BigEndian.AppendUint16(slices.Concat(to.mac, from.mac), kind)
	switch f.rng.IntN(20) {
	case 0:
		frame = append(slices.Concat(frame[:12], []byte{0x81, 0, 0, 5}), frame[12:]...)
	case 1:
		binary.BigEndian.PutUint16(frame[12:], f.pick(0x88b5, 0x88a8))
	}
	return append(frame, packet...)
}

// openBridge makes a host of its own with a bridge.
func openBridge(t *testing.T, cfg netlink.Config) *netlink.Host {
	t.Helper()
	cfg.Namespace = inNamespace(t, func() error {
		for _, key := range []string{"iptables", "ip6tables"} { // else the kernel drops what is cut short before we see it
			if err := ignoreMissing(os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+key, []byte("0"), 0)); err != nil {
				return err
			}
		}
		return nil
	})
	h, err := netlink.Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	if err := h.EnsureBridge(); err != nil {
		t.Fatal(err)
	}
	return h
}

// manyRules is so many rules that no enforcer tries them one by one. Some are about the two ends of the test.
func manyRules(n int, service string) string {
	var b strings.Builder
	b.WriteString("group w name web\ngroup d name db,other\ngroup o name other\n")
	for i := range n {
		fmt.Fprintf(&b, "group g%d name x%d\n", i, i)
		switch {
		case i%12 == 5:
			fmt.Fprintf(&b, "allow w -> %s tcp,udp %d\n", []string{"d", "o"}[i%2], 70+i%15)
		case i%12 == 9:
			fmt.Fprintf(&b, "%s d -> w%s\n", []string{"allow", "deny"}[i/12%2], service)
		case service == "":
			fmt.Fprintf(&b, "deny g%d -> * tcp %d-%d\n", i, 40+i, 50+2*i)
		default:
			fmt.Fprintf(&b, "allow g%d -> d\n", i)
		}
	}
	return b.String()
}

// The kernel's bridge and our own filter say the same of every frame, after the same frames before.
func TestKernelAgreesWithFilter(t *testing.T) {
	h := openBridge(t, netlink.Config{})
	ends := []*kernelEnd{openEnd(t, h, "10.0.0.1/24"), openEnd(t, h, "10.0.0.2/24")}
	endpoints := []filter.Endpoint{
		{ID: "a", Names: []string{"web"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}},
		{ID: "b", Names: []string{"db"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}},
	}
	f := &forge{rng: rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano()))), addrs: [2][2]string{{"10.0.0.1", "fd00::1"}, {"10.0.0.2", "fd00::2"}}}
	seed := f.rng.Uint64()
	f.rng = rand.New(rand.NewPCG(seed, 1))
	t.Log("seed", seed)
	flows, counts := filter.NewFlows(maphash.MakeSeed()), filter.NewCounts()
	number, passed := 0, 0
	for _, text := range []string{
		"group w name web\ngroup d name db\nallow w -> d tcp,udp 80\nallow w -> d icmp\ndefault deny\n",
		"group w name web\ngroup d name db\nallow w -> d tcp 80-81\nallow d -> w 47\ndefault deny\n",
		"group w name web\ndeny w -> * tcp 80\ndeny 10.0.0.2,fd00::2 -> w icmp,udp\ndefault allow\n",
		"default deny\n",
		"allow 10.0.0.0/31,10.9.0.0/16,10.11.0.0/16,10.13.0.0/16,10.15.0.0/16,fd00::/127 -> 10.0.0.2,fd00::2\ndefault deny\n",
		"allow * -> * sctp\nallow * -> * icmp\ndeny * -> * tcp 80\ndefault allow\n",
		manyRules(60, "") + "default deny\n",
		"deny d -> w tcp 80\n" + manyRules(60, "") + "default deny\n", // the difference of one rule
		manyRules(60, "") + manyRules(61, " tcp") + "default allow\n",
	} {
		doc, err := filter.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		members := filter.NewMembers(doc)
		for _, e := range endpoints {
			members.Put(e)
		}
		if err := h.SetPolicy(kernelPolicy(doc, members)); err != nil {
			t.Fatal(err)
		}
		own := filter.New(doc, members, netip.Addr{}, flows, counts)
		for i := range 300 {
			number++
			if i == 100 || i == 200 { // the database calls itself something else, and then again what it was called
				e := endpoints[1]
				e.Names = [][]string{{"other"}, e.Names}[i/100-1]
				changes := members.Put(e)
				if err := h.ChangeMembers(kernelChanges(changes)); err != nil {
					t.Fatal(err)
				}
				if len(changes) > 0 {
					own = own.With(members, changes)
				}
			}
			from := f.rng.IntN(2)
			frame := f.frame(ends[from], ends[1-from], from)
			want := own.Judge(1, frame, len(frame))
			if got := crosses(t, ends[from], ends[1-from], frame, number); got != want {
				t.Fatalf("policy\n%sframe %d from %d: %x: the kernel passes it is %v, the filter %v", text, number, from, frame, got, want)
			}
			passed += b2i(want)
		}
	}
	if passed < number/10 || passed > number*9/10 {
		t.Errorf("%d of %d frames passed: a poor test", passed, number)
	}
}
