// Command wireguard is a contender of the bench: wireguard-go's own device on
// its own TUN interface, as wireguard-go runs it, configured once.
//
//	wireguard IFNAME MTU < configuration     (lines of the UAPI "set" operation)
//
// It prints "ready" when the interface is there and runs until it is killed.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "wireguard:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return fmt.Errorf("usage: wireguard IFNAME MTU < configuration")
	}
	mtu, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return fmt.Errorf("MTU: %w", err)
	}
	config, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	link, err := tun.CreateTUN(os.Args[1], mtu)
	if err != nil {
		return fmt.Errorf("create TUN: %w", err)
	}
	dev := device.NewDevice(link, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	if err := dev.IpcSet(string(config)); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	if err := dev.Up(); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	fmt.Println("ready")
	<-dev.Wait()
	return nil
}
