// Command demo shows weave at work on one machine: three hosts and six
// containers as network namespaces, one Ethernet between them. It changes
// nothing outside its own namespaces and needs no root, only user namespaces
// and a /dev/net/tun that may be opened.
package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"weave/netns-tests/lab"
)

func main() { os.Exit(lab.Main(run)) }

func run() int {
	began := time.Now()
	if err := possible(); err != nil {
		fmt.Fprintln(os.Stderr, "The demo cannot run here:", err)
		return 1
	}
	d := &demo{began: began, out: os.Stdout}
	err := d.play()
	if d.lab != nil {
		d.say("taking everything down")
		err = errors.Join(err, d.lab.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nThe demo failed:", err)
		return 1
	}
	d.say("done: every step worked, and nothing is left behind")
	return 0
}

// possible says what is missing, and how to get it.
func possible() error {
	if err := lab.Available(); err != nil {
		return err
	}
	if _, err := lab.Binary(); err != nil {
		return err
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, os.ErrPermission):
		return errors.New("this user may not open /dev/net/tun.\nEither run `make demo` as root, or open it to users, as most distributions do: sudo chmod 666 /dev/net/tun")
	default:
		return fmt.Errorf("no TAP devices: %w.\nLoad the driver: sudo modprobe tun", err)
	}
}
