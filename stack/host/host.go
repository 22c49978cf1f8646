package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// ErrClosed reports that the Host has ended.
var ErrClosed = errors.New("the host's endpoint on the overlay is closed")

// DefaultMTU is the MTU in bytes where Config has none: Weave Net's.
const DefaultMTU = 1376

// Config is what a Host is made with.
type Config struct {
	MAC    net.HardwareAddr // 6 bytes, unicast; must be given
	MTU    int              // of IP packets, in bytes; 0 is DefaultMTU
	NoGSO  bool             // send no super-frames; only measurements want that
	Limits Limits
}

// Limits bound what a Host holds. Zero fields mean the default.
type Limits struct {
	Conns       int           // connections carried at a time by one Forward or Proxy; 4096
	Sessions    int           // UDP clients remembered by one Forward; 1024. One more displaces the longest silent
	UDPIdle     time.Duration // how long a silent UDP session is kept; 1 minute
	DialTimeout time.Duration // of connections made for others; 10 seconds
	TCPBuffer   int           // bytes, of each direction of an overlay connection at most; 4 MiB
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.Conns, 4096)
	setDefault(&l.Sessions, 1024)
	setDefault(&l.UDPIdle, time.Minute)
	setDefault(&l.DialTimeout, 10*time.Second)
	setDefault(&l.TCPBuffer, 4<<20)
	return l
}

func setDefault[T int | time.Duration](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// Host is the host's presence on the overlay. See the package comment.
type Host struct {
	limits Limits
	stack  *stack.Stack
	link   link
	out    *queue
	port   Port
	count  counters
	addrs  atomic.Pointer[addressSet]
	egress atomic.Pointer[egress]
	heard  struct{ second, count atomic.Int64 } // announcements
	ended  atomic.Bool
	ctx    context.Context // of everything that runs; ends with the Host
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu sync.Mutex // guards changes of addrs and the adding to wg
}

// New makes a Host without addresses. Call Run or Close afterwards.
func New(cfg Config) (*Host, error) {
	if len(cfg.MAC) != 6 || cfg.MAC[0]&1 != 0 {
		return nil, fmt.Errorf("new host endpoint: MAC %q is not a unicast address of 6 bytes", cfg.MAC)
	}
	setDefault(&cfg.MTU, DefaultMTU)
	if cfg.MTU < 576 || cfg.MTU > 65535 {
		return nil, fmt.Errorf("new host endpoint: mtu %d is not between 576 and 65535", cfg.MTU)
	}
	out, err := newQueue()
	if err != nil {
		return nil, fmt.Errorf("new host endpoint: %w", err)
	}
	h := &Host{limits: cfg.Limits.withDefaults(), out: out}
	h.port.h = h
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.addrs.Store(&addressSet{})
	h.link = link{
		mac: linkAddress(cfg.MAC), mtu: uint32(cfg.MTU), gso: !cfg.NoGSO, out: out, dropped: &h.count.droppedQueueFull,
	}
	h.stack, err = newStack(&h.link, h.limits)
	if err == nil {
		err = h.addLinkLocal()
	}
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("new host endpoint: %w", err)
	}
	return h, nil
}

// newStack makes a netstack with one interface.
func newStack(l *link, limits Limits) (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		HandleLocal: l.resolve == nil, // who takes every address for its own cannot know its own packets by them
	})
	if err := configure(s, limits); err != nil {
		s.Destroy()
		return nil, err
	}
	if err := s.CreateNIC(nicID, l); err != nil {
		s.Destroy()
		return nil, fmt.Errorf("create interface: %v", err)
	}
	return s, nil
}

// configure makes netstack's TCP what is usual: its defaults are small windows without selective acknowledgements. At the version
// that go.mod has, its RACK stalls under loss (gvisor issue 9778; our own test of loss found it), and its cubic may overflow or
// shrink the window without cause (tailscale pull 21303, gvisor pull 13958), so neither is used.
func configure(s *stack.Stack, limits Limits) error {
	initial := min(limits.TCPBuffer, 256<<10)
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	recovery, control := tcpip.TCPRecovery(0), tcpip.CongestionControlOption("reno")
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: initial, Max: limits.TCPBuffer}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: initial, Max: limits.TCPBuffer}
	for _, opt := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &recovery, &control, &send, &receive} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return fmt.Errorf("set %T: %v", opt, err)
		}
	}
	const datagrams = 256 << 10
	if err := s.SetOption(tcpip.ReceiveBufferSizeOption{Min: 4096, Default: datagrams, Max: limits.TCPBuffer}); err != nil {
		return fmt.Errorf("set receive buffer: %v", err)
	}
	if err := s.SetOption(tcpip.SendBufferSizeOption{Min: 4096, Default: datagrams, Max: limits.TCPBuffer}); err != nil {
		return fmt.Errorf("set send buffer: %v", err)
	}
	return nil
}

// Port is the Host's port, for the switch.
func (h *Host) Port() *Port { return &h.port }

// MAC is the Host's address on the Ethernet.
func (h *Host) MAC() net.HardwareAddr { return net.HardwareAddr(h.link.mac) }

// MTU is the largest IP packet in bytes that is no super-frame.
func (h *Host) MTU() int { return int(h.link.mtu) }

// Run keeps the Host until ctx ends, then ends everything that was made from it and waits for that.
func (h *Host) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-h.ctx.Done():
	}
	h.Close()
	return nil
}

// Close is how Run ends, for who does not come to call it. Closing twice does nothing.
func (h *Host) Close() {
	h.mu.Lock()
	first := !h.ended.Swap(true)
	h.mu.Unlock()
	h.cancel()
	h.DisableEgress() // before the wait: a handshake of its ends only with its stack
	h.wg.Wait()
	if !first {
		return
	}
	if h.stack != nil {
		h.stack.Destroy()
	}
	h.out.close()
}

// start runs f until it returns, which it must soon after its context has ended. It reports false, and does not, when the Host has ended.
func (h *Host) start(f func(ctx context.Context)) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended.Load() {
		return false
	}
	h.wg.Go(func() { f(h.ctx) })
	return true
}

// toAddress is addr as netstack has it.
func toAddress(addr netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(addr.AsSlice()) }

// fromAddress is the reverse of toAddress.
func fromAddress(a tcpip.Address) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return addr
}
