// Command bench measures weave beside a bare cable and wireguard-go, on one
// machine, and prints a table in Markdown.
//
// Each contender joins two containers on two hosts (namespaces, package lab)
// over a cable between the hosts. All contenders stand at the same time and
// are measured in turn, several rounds, so that what the machine does meanwhile
// hits them alike; the table holds medians. Two kinds of cable:
//
//	V1500  a plain veth: super-frames of 64 KB pass uncut, an ideal network card
//	N1500  segmentation offloads off: every frame on the wire fits 1,500 bytes
//
// Both ends and both applications share the machine's processors, so gigabits
// per second say what these can push through both ends at once; CPU-seconds per
// gigabyte is the number to compare between machines.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"weave/netns-tests/lab"
)

// options is how long and how often is measured.
type options struct {
	rounds    int
	seconds   int
	underlays string
	write     string
}

func main() { os.Exit(lab.Main(run)) }

func run() int {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "how often each contender is measured")
	flag.IntVar(&o.seconds, "seconds", 4, "length of each TCP measurement")
	flag.StringVar(&o.underlays, "underlays", "V1500,N1500", "kinds of cable")
	flag.StringVar(&o.write, "write", "", "put the tables into this file, between its marks")
	flag.Parse()
	if err := bench(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func bench(o options) error {
	if err := lab.Available(); err != nil {
		return err
	}
	meter := newMeter()
	defer meter.close()
	text := heading(o, meter)
	for _, kind := range strings.Split(o.underlays, ",") {
		table, err := benchUnderlay(o, kind, meter)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		text += table
	}
	fmt.Print("\n" + text)
	if o.write == "" {
		return nil
	}
	return replaceBetweenMarks(o.write, text)
}

// benchUnderlay measures all contenders over one kind of cable.
func benchUnderlay(o options, kind string, meter *meter) (string, error) {
	contenders, err := setUp(kind == "N1500")
	defer func() {
		for _, c := range contenders {
			c.close()
		}
	}()
	if err != nil {
		return "", err
	}
	for round := range o.rounds {
		for _, c := range contenders {
			began := time.Now()
			s, err := c.measure(o, meter)
			if err != nil {
				return "", fmt.Errorf("%s: %w", c.name, err)
			}
			c.samples = append(c.samples, s)
			fmt.Fprintf(os.Stderr, "%s round %d of %d, %-12s %5.2f Gb/s, %5.2f with four streams, %5.2f CPU-s/GB, %4.0f kpps, p50 %v, p99 %v (%.0f s)\n",
				kind, round+1, o.rounds, c.name, s.tcp1, s.tcp4, s.cpu, s.kpps, s.p50, s.p99, time.Since(began).Seconds())
		}
	}
	for _, c := range contenders {
		if c.rssAfter, err = rss(c.pid); c.pid != 0 && err != nil {
			return "", err
		}
	}
	return render(kind, contenders), nil
}

// setUp builds one lab per contender.
func setUp(plain bool) ([]*contender, error) {
	var all []*contender
	for _, make := range []func(bool) (*contender, error){bareCable, wireguardGo, weave} {
		c, err := make(plain)
		if c != nil && c.lab != nil {
			all = append(all, c)
		}
		if err != nil {
			return all, err
		}
	}
	for _, c := range all {
		if err := lab.Eventually(20*time.Second, c.reaches); err != nil {
			return all, fmt.Errorf("%s: %w", c.name, err)
		}
		if c.pid == 0 {
			continue
		}
		var err error
		if c.rssIdle, err = rss(c.pid); err != nil {
			return all, err
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no contenders")
	}
	return all, nil
}
