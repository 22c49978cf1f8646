package session

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"
)

// These tests talk to wireguard-go's device, the reference implementation in user space:
//
//	test goroutine ── Machine + Keypairs ◄──► memoryBind ◄──► device ◄──► ChannelTUN ── test goroutine
//
// The device runs on real time. Our clock is real time plus a skew that a test may enlarge. Nobody sleeps: whoever
// waits does so on a channel, for patience at most.
const patience = 20 * time.Second

var (
	deviceIP = netip.MustParseAddr("10.0.0.2")
	ourIP    = netip.MustParseAddr("10.0.0.1")
)

// endpoint is an address that conn.Bind understands.
type endpoint netip.AddrPort

func (endpoint) ClearSrc()             {}
func (endpoint) SrcToString() string   { return "" }
func (endpoint) SrcIP() netip.Addr     { return netip.Addr{} }
func (e endpoint) DstToString() string { return netip.AddrPort(e).String() }
func (e endpoint) DstIP() netip.Addr   { return netip.AddrPort(e).Addr() }
func (e endpoint) DstToBytes() []byte  { b, _ := netip.AddrPort(e).MarshalBinary(); return b }

type packet struct {
	from endpoint
	data []byte
}

// memoryBind is a conn.Bind whose network is two channels.
type memoryBind struct {
	in   chan packet // to the device
	out  chan []byte // from the device to us; what it sends elsewhere vanishes
	once sync.Once
	done chan struct{}
}

func newMemoryBind() *memoryBind {
	return &memoryBind{in: make(chan packet, 4096), out: make(chan []byte, 4096), done: make(chan struct{})}
}

func (b *memoryBind) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	return []conn.ReceiveFunc{b.receive}, 1, nil
}

func (b *memoryBind) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	select {
	case <-b.done:
		return 0, net.ErrClosed
	case p := <-b.in:
		sizes[0], eps[0] = copy(bufs[0], p.data), p.from
		return 1, nil
	}
}

func (b *memoryBind) Send(bufs [][]byte, ep conn.Endpoint) error {
	for _, p := range bufs {
		if netip.AddrPort(ep.(endpoint)) != addrA {
			continue
		}
		select {
		case b.out <- bytes.Clone(p):
		case <-b.done:
			return net.ErrClosed
		}
	}
	return nil
}

// Close is called once before the first Open, when there is nothing to close.
func (b *memoryBind) Close() error         { return nil }
func (b *memoryBind) SetMark(uint32) error { return nil }
func (b *memoryBind) BatchSize() int       { return 1 }

func (b *memoryBind) ParseEndpoint(s string) (conn.Endpoint, error) {
	a, err := netip.ParseAddrPort(s)
	return endpoint(a), err
}

// pair is our end and a device that know each other.
type pair struct {
	*end
	peer      PublicKey
	bind      *memoryBind
	tun       *tuntest.ChannelTUN
	device    *device.Device
	underLoad bool
	skew      time.Duration
	cookies   int  // cookie replies the device sent
	mac2      bool // we sent a message with a mac2
}

func newPair(t *testing.T) *pair {
	t.Helper()
	them, err := newNoiseSide(privateKey(101), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{end: newEnd(t, 1, addrA, Config{}), peer: PublicKey(them.static.Public), bind: newMemoryBind(), tun: tuntest.NewChannelTUN()}
	psk := [32]byte{9, 8, 7}
	p.tick()
	p.step(AddPeer{Key: p.peer, PSK: psk})
	level := device.LogLevelSilent
	if os.Getenv("WIREGUARD_LOG") != "" {
		level = device.LogLevelVerbose
	}
	p.device = device.NewDevice(p.tun.TUN(), p.bind, device.NewLogger(level, ""))
	our, theirs := p.m.PublicKey(), privateKey(101)
	config := fmt.Sprintf("private_key=%s\npublic_key=%s\npreshared_key=%s\nendpoint=%v\nallowed_ip=%v/32\n",
		hex.EncodeToString(theirs[:]), hex.EncodeToString(our[:]), hex.EncodeToString(psk[:]), addrA, ourIP)
	if err := p.device.IpcSet(config); err != nil {
		t.Fatal(err)
	}
	if err := p.device.Up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.bind.once.Do(func() { close(p.bind.done) })
		p.device.Close()
	})
	return p
}

// tick sets our clock to real time plus the skew.
func (p *pair) tick() {
	p.now = time.Now().Add(p.skew)
	p.clock.Advance(p.now)
}

// push does one step and sends what comes of it to the device.
func (p *pair) push(in Input) {
	p.t.Helper()
	p.tick()
	e := p.step(in)
	for _, m := range p.take() {
		_, mac2 := mac2Part(m)
		p.mac2 = p.mac2 || !bytes.Equal(mac2, make([]byte, macLen))
		p.inject(m)
	}
	for range e.Keepalive {
		if k := p.m.Keys(p.peer).Sending(); k != nil {
			msg, err := k.Seal(nil, nil)
			if err != nil {
				p.t.Fatal(err)
			}
			p.inject(msg)
		}
	}
}

func (p *pair) inject(msg []byte) {
	p.bind.in <- packet{endpoint(addrA), bytes.Clone(msg)}
}

// nextData handles messages from the device until a data message with a payload comes, and returns both as it came and
// opened. A nil keypair for it is fatal.
func (p *pair) nextData() (raw, plaintext []byte) {
	p.t.Helper()
	for {
		raw := p.nextMessage()
		if raw[0] != typeData {
			p.push(Datagram{From: addrB, Bytes: raw, UnderLoad: p.underLoad})
			continue
		}
		p.tick()
		plaintext, err := p.open(raw)
		if err != nil {
			p.t.Fatalf("open: %v", err)
		}
		if len(plaintext) > 0 {
			return raw, plaintext
		}
	}
}

func (p *pair) nextMessage() []byte {
	p.t.Helper()
	select {
	case raw := <-p.bind.out:
		if raw[0] == typeCookie {
			p.cookies++
		}
		return raw
	case <-time.After(patience):
		p.t.Fatalf("the device sends nothing; drops so far: %v", p.dropped)
		return nil
	}
}

// until handles handshake messages and keepalives from the device until a condition holds.
func (p *pair) until(done func() bool) {
	p.t.Helper()
	for !done() {
		raw := p.nextMessage()
		if raw[0] == typeData {
			p.tick()
			if _, err := p.open(raw); err != nil {
				p.t.Fatalf("open: %v", err)
			}
			continue
		}
		p.push(Datagram{From: addrB, Bytes: raw, UnderLoad: p.underLoad})
	}
}

// fromDevice lets a packet come out of the device's TUN towards us.
func (p *pair) fromDevice() (raw []byte) {
	p.t.Helper()
	want := tuntest.Ping(ourIP, deviceIP)
	select {
	case p.tun.Outbound <- want:
	case <-time.After(patience):
		p.t.Fatal("the device does not read its TUN")
	}
	raw, got := p.nextData()
	if len(got)%16 != 0 || !bytes.HasPrefix(got, want) {
		p.t.Fatalf("opened %x, the device was given %x", got, want)
	}
	return raw
}

// toDevice seals a packet, without padding, and waits for it in the device's TUN.
func (p *pair) toDevice() (raw []byte) {
	p.t.Helper()
	want := tuntest.Ping(deviceIP, ourIP)
	p.tick()
	k := p.m.Keys(p.peer).Sending()
	if k == nil {
		p.t.Fatal("no keypair to send with")
	}
	raw, err := k.Seal(nil, want)
	if err != nil {
		p.t.Fatal(err)
	}
	p.inject(raw)
	p.arrives(want)
	return raw
}

func (p *pair) arrives(want []byte) {
	p.t.Helper()
	select {
	case got := <-p.tun.Inbound:
		if !bytes.Equal(got, want) {
			p.t.Fatalf("the device wrote %x, we sent %x", got, want)
		}
	case <-time.After(patience):
		p.t.Fatal("the device writes nothing to its TUN")
	}
}

func (p *pair) sending() *Keypair { return p.m.Keys(p.peer).Sending() }

func TestDeviceAsResponder(t *testing.T) {
	p := newPair(t)
	p.push(Want{Key: p.peer})
	p.until(func() bool { return p.sending() != nil })
	if k := p.sending(); !k.Initiator() || k.Suite() != SuiteWireGuard {
		t.Fatalf("initiator %t, suite %v", k.Initiator(), k.Suite())
	}
	p.toDevice()
	p.fromDevice()
	p.toDevice()
}

func TestDeviceAsInitiator(t *testing.T) {
	p := newPair(t)
	p.fromDevice()
	if k := p.sending(); k == nil || k.Initiator() {
		t.Fatal("the device's first message should have confirmed our keypair")
	}
	p.toDevice()
	p.fromDevice()
}

func TestDeviceRekeyByUs(t *testing.T) {
	p := newPair(t)
	p.push(Want{Key: p.peer})
	p.until(func() bool { return p.sending() != nil })
	first := p.sending()
	p.toDevice()
	p.skew += 121 * time.Second
	p.toDevice() // the keypair is in use past its 120 s
	p.push(Tick{})
	// The device refuses initiations within 20 ms of its real time, so ours may have to be repeated.
	for len(p.bind.out) == 0 {
		select {
		case <-time.After(50 * time.Millisecond):
			p.skew += 6 * time.Second
			p.push(Tick{})
		case raw := <-p.bind.out:
			p.bind.out <- raw
		}
	}
	p.until(func() bool { return p.sending() != first })
	p.toDevice()
	p.fromDevice()
	if p.m.Keys(p.peer).Previous() != first {
		t.Error("the first keypair should be the previous one")
	}
}

func TestDeviceRekeyByIt(t *testing.T) {
	p := newPair(t)
	p.fromDevice()
	first := p.sending()
	p.toDevice()
	p.skew += time.Second // so that we do not refuse its second initiation as a flood
	p.device.LookupPeer(device.NoisePublicKey(p.m.PublicKey())).ExpireCurrentKeypairs()
	p.fromDevice()
	if second := p.sending(); second == first || second.Initiator() {
		t.Fatal("the device's second handshake did not replace the keypair")
	}
	p.toDevice()
}

func TestDeviceRefusesOurReplays(t *testing.T) {
	p := newPair(t)
	p.push(Want{Key: p.peer})
	p.until(func() bool { return p.sending() != nil })
	want := tuntest.Ping(deviceIP, ourIP)
	var sealed [][]byte
	for range 3 {
		msg, err := p.sending().Seal(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, msg)
	}
	// Out of order is fine, twice is not: of these five, three arrive, then the marker.
	for _, i := range []int{2, 0, 0, 1, 2} {
		p.inject(sealed[i])
	}
	for range 3 {
		p.arrives(want)
	}
	marker := append(bytes.Clone(want[:28]), 0xaa, 0xbb, 0xcc, 0xdd)
	msg, err := p.sending().Seal(nil, marker)
	if err != nil {
		t.Fatal(err)
	}
	p.inject(msg)
	p.arrives(marker)
}

func TestDeviceReplayedToUs(t *testing.T) {
	p := newPair(t)
	first := p.fromDevice()
	if _, err := p.open(first); err != ErrReplayed {
		t.Errorf("the same data message again: %v", err)
	}
	p.toDevice()
}
