package tun

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

const (
	// HeaderLen is the length in bytes of the virtio-net header before every frame, in both directions.
	HeaderLen = 10
	// MaxPacket is the size in bytes of a buffer that holds whatever a TAP can hand out: header, Ethernet header,
	// one VLAN tag and the largest IP packet. TryRead cuts off what does not fit.
	MaxPacket = HeaderLen + 14 + 4 + 65535
	// DefaultTxQueueLen is how many packets the kernel holds for a reader before it drops.
	DefaultTxQueueLen = 1000
)

// Backend names what carries the frames.
type Backend uint8

const (
	// Auto takes Kernel, and Water where the kernel refuses what Kernel needs.
	Auto Backend = iota
	// Kernel is a TAP with virtio-net headers and offloads.
	Kernel
	// Water is a plain TAP opened by github.com/songgao/water.
	Water
)

// String returns the name as operators write it.
func (b Backend) String() string {
	switch b {
	case Auto:
		return "auto"
	case Kernel:
		return "kernel"
	case Water:
		return "water"
	}
	return fmt.Sprintf("backend(%d)", uint8(b))
}

// ParseBackend is the reverse of String; "" is Auto.
func ParseBackend(s string) (Backend, error) {
	switch s {
	case "", "auto":
		return Auto, nil
	case "kernel":
		return Kernel, nil
	case "water":
		return Water, nil
	}
	return Auto, fmt.Errorf("unknown tap backend %q: it is auto, kernel or water", s)
}

// Config says what TAP to open.
type Config struct {
	Name       string           // interface name, up to 15 bytes; may hold one %d; "" lets the kernel choose
	Namespace  string           // path of the network namespace to open it in; "" is the caller's own
	Queues     int              // number of queues; 0 is 1; Water always has 1
	MTU        int              // bytes; 0 leaves the kernel's 1500
	MAC        net.HardwareAddr // nil leaves the kernel's choice
	TxQueueLen int              // packets; 0 is DefaultTxQueueLen
	Backend    Backend
	Persist    bool // the interface outlives Close and the process
	LeaveDown  bool // do not set the interface up: the caller still wants to arrange things
}

// ErrRefused reports that the kernel has TAPs but not the virtio-net headers or offloads that Kernel needs.
var ErrRefused = errors.New("kernel refuses TAP offloads")

// Device is an open TAP. All methods may be called concurrently.
type Device struct {
	name     string
	mtu      int
	backend  Backend
	features uint
	fallback error
	queues   []*Queue
}

// Stats are the counts of a queue or, summed up, of a device since it was opened.
type Stats struct {
	ReadPackets, ReadBytes       uint64
	WrittenPackets, WrittenBytes uint64
	// DroppedFull: the kernel had no room (EAGAIN, ENOBUFS, ENOMEM).
	// DroppedDown: the interface was down (EIO, ENETDOWN).
	// DroppedRefused: the kernel, or the fallback's segmenter, could make no sense of the packet.
	DroppedFull, DroppedDown, DroppedRefused uint64
}

// Open makes or attaches to the TAP that cfg describes. The error says what to do where that is known.
func Open(cfg Config) (*Device, error) {
	if cfg.Queues <= 0 {
		cfg.Queues = 1
	}
	if cfg.TxQueueLen == 0 {
		cfg.TxQueueLen = DefaultTxQueueLen
	}
	if len(cfg.Name) > 15 {
		return nil, fmt.Errorf("open tap: name %q is longer than 15 bytes", cfg.Name)
	}
	var d *Device
	err := inNamespace(cfg.Namespace, func() error {
		var err error
		if d, err = openBackend(cfg); err != nil {
			return err
		}
		if err = d.configure(cfg); err != nil {
			d.Close()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open tap %s: %w", cfg.Name, err)
	}
	return d, nil
}

func openBackend(cfg Config) (*Device, error) {
	switch cfg.Backend {
	case Kernel:
		return openKernel(cfg)
	case Water:
		return openWater(cfg)
	case Auto:
		d, err := openKernel(cfg)
		if !errors.Is(err, ErrRefused) {
			return d, err
		}
		w, werr := openWater(cfg)
		if werr != nil {
			return nil, errors.Join(err, werr)
		}
		w.fallback = err
		return w, nil
	}
	return nil, fmt.Errorf("unknown %v", cfg.Backend)
}

// Name is the interface's name as the kernel has it.
func (d *Device) Name() string { return d.name }

// MTU is the interface's MTU in bytes when it was opened.
func (d *Device) MTU() int { return d.mtu }

// Backend is what carries the frames: Kernel or Water, never Auto.
func (d *Device) Backend() Backend { return d.backend }

// Fallback is why Auto took Water; nil if it did not.
func (d *Device) Fallback() error { return d.fallback }

// Offloads reports whether the kernel hands out and accepts super-frames and partial checksums.
func (d *Device) Offloads() bool { return d.features != 0 }

// UDPSegmentation reports whether super-frames of UDP are among them (Linux 6.2 and later).
func (d *Device) UDPSegmentation() bool { return d.features&usoFeatures != 0 }

// Queues are the device's queues. The slice must not be changed.
func (d *Device) Queues() []*Queue { return d.queues }

// Stats sums the queues' counts.
func (d *Device) Stats() Stats {
	var sum Stats
	for _, q := range d.queues {
		sum = sum.Add(q.Stats())
	}
	return sum
}

// Add sums counts.
func (s Stats) Add(o Stats) Stats {
	s.ReadPackets += o.ReadPackets
	s.ReadBytes += o.ReadBytes
	s.WrittenPackets += o.WrittenPackets
	s.WrittenBytes += o.WrittenBytes
	s.DroppedFull += o.DroppedFull
	s.DroppedDown += o.DroppedDown
	s.DroppedRefused += o.DroppedRefused
	return s
}

// Close closes every queue. It does not wake who waits for one with poll(2). Unless it was opened with Persist the interface goes away.
// Closing twice returns os.ErrClosed.
func (d *Device) Close() error {
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, q.file.Close())
	}
	return errors.Join(errs...)
}

// FromFile adopts the descriptor of a TAP that someone else has opened and configured (TUNSETIFF with IFF_TAP, IFF_NO_PI
// and IFF_VNET_HDR done, perhaps in another namespace, the descriptor passed over a unix socket). It takes ownership of fd,
// also when it fails. The device has this one queue and is reported as Kernel; offloads are asked for again.
func FromFile(fd int) (*Device, error) {
	d, err := adopt(fd)
	if err != nil {
		return nil, fmt.Errorf("adopt tap descriptor %d: %w", fd, err)
	}
	return d, nil
}

// counters are a queue's live Stats.
type counters struct {
	readPackets, readBytes                   atomic.Uint64
	writtenPackets, writtenBytes             atomic.Uint64
	droppedFull, droppedDown, droppedRefused atomic.Uint64
}

func newDevice(name string, backend Backend, features uint, files []*os.File) (*Device, error) {
	d := &Device{name: name, backend: backend, features: features}
	for i, f := range files {
		q, err := newQueue(f, backend == Water)
		if err != nil {
			for _, f := range files[i:] {
				f.Close()
			}
			d.Close()
			return nil, err
		}
		d.queues = append(d.queues, q)
	}
	return d, nil
}
