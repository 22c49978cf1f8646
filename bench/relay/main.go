// Command relay is a wire between two network interfaces that holds every
// frame for a while, and may lose some: what netem does where there is one.
//
//	relay [-delay 10ms] [-loss 0.1] [-seed 1] DEVICE DEVICE
//
// The kernel puts arriving frames into a ring shared with us, with the time of
// their arrival. That ring is the queue as well: a frame stays in it until it
// is due, then goes out from there, so there is no copy of our own. A full
// ring drops what arrives, as a full switch would.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	goruntime "runtime"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	delay := flag.Duration("delay", 0, "how long each frame is held")
	loss := flag.Float64("loss", 0, "per cent of the frames lost, each way")
	seed := flag.Uint64("seed", 1, "of the random numbers")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: relay [-delay D] [-loss PERCENT] [-seed N] DEVICE DEVICE")
		os.Exit(2)
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -10) // a wire does not wait for a processor; as a user it may have to
	ports, err := open(flag.Arg(0), flag.Arg(1))
	if err == nil {
		err = run(ports, *delay, *loss, *seed)
	}
	fmt.Fprintln(os.Stderr, "relay:", err)
	os.Exit(1)
}

func open(names ...string) (ports [2]*port, err error) {
	for i, name := range names {
		if ports[i], err = openPort(name); err != nil {
			return ports, fmt.Errorf("%s: %w", name, err)
		}
	}
	return ports, nil
}

// run relays both ways until one fails.
func run(ports [2]*port, delay time.Duration, loss float64, seed uint64) error {
	failed := make(chan error, 2)
	for i := range ports {
		way := oneWay{
			from: ports[i], to: ports[1-i], delay: delay,
			lose: dice(loss, rand.New(rand.NewPCG(seed, uint64(i)))),
		}
		go func() {
			goruntime.LockOSThread()
			failed <- way.run()
		}()
	}
	return <-failed
}

// dice says of each frame whether it is lost.
func dice(percent float64, r *rand.Rand) func() bool {
	if percent <= 0 {
		return func() bool { return false }
	}
	return func() bool { return r.Float64()*100 < percent }
}

// oneWay carries frames in one direction.
type oneWay struct {
	from, to *port
	delay    time.Duration
	lose     func() bool
}

const (
	batchSize = 64
	slack     = 100 * time.Microsecond // frames due so soon go along: fewer wake-ups
)

func (w *oneWay) run() error {
	for {
		first, ok := w.from.peek(0)
		if !ok {
			if err := w.from.wait(); err != nil {
				return err
			}
			continue
		}
		if early := time.Until(first.arrived.Add(w.delay)); early > 0 {
			time.Sleep(early)
		}
		if err := w.forward(time.Now().Add(slack - w.delay)); err != nil {
			return err
		}
	}
}

// forward sends what arrived before a moment, at most one batch.
func (w *oneWay) forward(before time.Time) error {
	taken, out := 0, make([][]byte, 0, batchSize)
	for taken < batchSize {
		f, ok := w.from.peek(taken)
		if !ok || f.arrived.After(before) {
			break
		}
		taken++
		if !w.lose() {
			out = append(out, f.bytes)
		}
	}
	err := w.to.send(out)
	w.from.release(taken)
	return err
}
