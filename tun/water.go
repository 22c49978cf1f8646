package tun

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/songgao/water"
)

// openWater opens a plain TAP. It must run in the namespace the TAP belongs to.
func openWater(cfg Config) (*Device, error) {
	probe, err := openTun() // water's errors do not say what to do
	if err != nil {
		return nil, err
	}
	syscall.Close(probe)
	wc := water.Config{DeviceType: water.TAP}
	wc.Name, wc.Persist = cfg.Name, cfg.Persist
	// water opens without O_CLOEXEC; the fork lock keeps the descriptor out of children until it is marked.
	syscall.ForkLock.RLock()
	ifce, err := water.New(wc)
	if err != nil {
		syscall.ForkLock.RUnlock()
		return nil, fmt.Errorf("water: %w", err)
	}
	file, ok := ifce.ReadWriteCloser.(*os.File)
	if ok {
		err = closeOnExec(file)
	} else {
		err = errors.New("water: its interface is no file")
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		ifce.Close()
		return nil, err
	}
	return newDevice(ifce.Name(), Water, 0, []*os.File{file})
}

func closeOnExec(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { syscall.CloseOnExec(int(fd)) })
}
