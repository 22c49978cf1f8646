package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands and layouts of the ethtool ioctl, from linux/ethtool.h.
const (
	ethtoolGSSetInfo  = 0x37
	ethtoolGStrings   = 0x1b
	ethtoolSFeatures  = 0x3b
	ethSSFeatures     = 4  // the string set that names the features
	ethGStringLen     = 32 // bytes per name
	featureBlockBytes = 8  // two u32 per 32 features: which are meant, which of them are wanted
)

// PlainNIC makes dev behave like a network card without segmentation offloads:
// what leaves it is cut to the MTU first, and what arrives is joined again by
// the kernel's receive offload.
func PlainNIC(n *NS, dev string) error {
	return SetFeatures(n, dev, map[string]bool{
		"tx-tcp-segmentation": false, "tx-tcp6-segmentation": false, "tx-tcp-ecn-segmentation": false,
		"tx-tcp-mangleid-segmentation": false, "tx-udp-segmentation": false, "tx-gso-list": false,
		"tx-udp_tnl-segmentation": false, "tx-udp_tnl-csum-segmentation": false, "rx-gro": true,
	})
}

// Coalesce makes a link collect arriving frames for a moment, as a network card
// does, so that the kernel's receive offload has several to join.
func Coalesce(n *NS, dev string, span time.Duration) error {
	return n.Do(func() error {
		// /sys shows the network namespace it was mounted in; this mount is the thread's own
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
			return fmt.Errorf("mount /sys: %w", err)
		}
		dir := "/sys/class/net/" + dev
		return errors.Join(
			os.WriteFile(dir+"/napi_defer_hard_irqs", []byte("1"), 0o644),
			os.WriteFile(dir+"/gro_flush_timeout", strconv.AppendInt(nil, span.Nanoseconds(), 10), 0o644))
	})
}

// SetFeatures switches named features of a link (the names `ethtool -k`
// shows in its long form); names the kernel does not know are ignored.
func SetFeatures(n *NS, dev string, want map[string]bool) error {
	return n.Do(func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		names, err := featureNames(s, dev)
		if err != nil {
			return err
		}
		blocks := (len(names) + 31) / 32
		req := make([]byte, 8+blocks*featureBlockBytes)
		binary.NativeEndian.PutUint32(req, ethtoolSFeatures)
		binary.NativeEndian.PutUint32(req[4:], uint32(blocks))
		for i, name := range names {
			on, known := want[name]
			if !known {
				continue
			}
			block, bit := req[8+i/32*featureBlockBytes:], uint32(1)<<(i%32)
			binary.NativeEndian.PutUint32(block, binary.NativeEndian.Uint32(block)|bit)
			if on {
				binary.NativeEndian.PutUint32(block[4:], binary.NativeEndian.Uint32(block[4:])|bit)
			}
		}
		return ethtool(s, dev, req)
	})
}

// featureNames asks the kernel for the names of its features, in bit order.
func featureNames(s int, dev string) ([]string, error) {
	// struct ethtool_sset_info: cmd, reserved, u64 mask, u32 count
	info := make([]byte, 20)
	binary.NativeEndian.PutUint32(info, ethtoolGSSetInfo)
	binary.NativeEndian.PutUint64(info[8:], 1<<ethSSFeatures)
	if err := ethtool(s, dev, info); err != nil {
		return nil, err
	}
	count := int(binary.NativeEndian.Uint32(info[16:]))
	// struct ethtool_gstrings: cmd, set, count, names
	text := make([]byte, 12+count*ethGStringLen)
	binary.NativeEndian.PutUint32(text, ethtoolGStrings)
	binary.NativeEndian.PutUint32(text[4:], ethSSFeatures)
	binary.NativeEndian.PutUint32(text[8:], uint32(count))
	if err := ethtool(s, dev, text); err != nil {
		return nil, err
	}
	var names []string
	for b := range slices.Chunk(text[12:], ethGStringLen) {
		names = append(names, strings.TrimRight(string(b), "\x00"))
	}
	return names, nil
}

// ethtool hands one request to the kernel, which answers in place.
func ethtool(s int, dev string, req []byte) error {
	var ifr struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // struct ifreq's union is larger than a pointer
	}
	copy(ifr.name[:unix.IFNAMSIZ-1], dev)
	ifr.data = unsafe.Pointer(&req[0])
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		return fmt.Errorf("ethtool %s: %w", dev, errno)
	}
	return nil
}
