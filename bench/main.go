// Command bench measures weave beside other ways to join containers, on one
// machine, and prints tables in Markdown.
//
// Nouns: a contender joins two containers (contender.go, and a file each); an
// underlay is what lies between the two hosts (underlay.go); a work is one kind
// of measurement (works.go); a figure is one number of it. All contenders stand
// at the same time and take turns at each work, several rounds, so that what
// the machine does meanwhile hits them alike; tables hold medians.
//
// Both ends, both applications and the wire share the machine's processors, so
// gigabits per second say what these can push through both ends at once;
// CPU-seconds per gigabyte is the number to compare between machines.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"

	"weave/netns-tests/lab"
)

// options is what is measured, how long and how often.
type options struct {
	rounds     int
	seconds    int
	quick      bool
	underlays  string
	contenders string
	works      string
	programs   string
	write      string
	also       map[string]string // label of a further weave → path of its binary
}

// threads is how many threads of this program may run at once: more than block
// in system calls, so that one whose call is over need not wait until Go's
// scheduler takes a place from one that blocks.
const threads = 16

func main() { os.Exit(lab.Main(run)) }

func run() int {
	o, err := parse(os.Args[1:])
	if err == nil {
		err = bench(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func parse(args []string) (options, error) {
	o := options{also: map[string]string{}}
	f := flag.NewFlagSet("bench", flag.ExitOnError)
	f.IntVar(&o.rounds, "rounds", 5, "how often each contender is measured")
	f.IntVar(&o.seconds, "seconds", 3, "length of each TCP measurement")
	f.BoolVar(&o.quick, "quick", false, "one round of one second over V1500 and N1500, unless said otherwise")
	f.StringVar(&o.underlays, "underlays", "", "some of "+names(underlays())+", separated by commas (default all)")
	f.StringVar(&o.contenders, "contenders", "", "some of "+names(entries(nil))+" (default all)")
	f.StringVar(&o.works, "work", "", "some of "+names(works())+", or all (default: what each underlay is for)")
	f.StringVar(&o.programs, "programs", "bin/bench", "where the contenders that are built from source are")
	f.StringVar(&o.write, "write", "", "put the tables into this file, between its marks")
	f.Func("also", "`label=path` of another weave binary, measured as a contender; may be repeated", func(s string) error {
		label, path, ok := strings.Cut(s, "=")
		if !ok || label == "" || path == "" {
			return fmt.Errorf("%q is not label=path", s)
		}
		path, err := filepath.Abs(path)
		o.also[label] = path
		return err
	})
	_ = f.Parse(args)
	if f.NArg() > 0 {
		return o, fmt.Errorf("what is %q? See -help", f.Arg(0))
	}
	if o.quick {
		given := map[string]bool{}
		f.Visit(func(f *flag.Flag) { given[f.Name] = true })
		o.shorten(given)
	}
	return o, nil
}

func (o *options) shorten(given map[string]bool) {
	if !given["rounds"] {
		o.rounds = 1
	}
	if !given["seconds"] {
		o.seconds = 1
	}
	if !given["underlays"] {
		o.underlays = "V1500,N1500"
	}
}

func bench(o options) error {
	if err := lab.Available(); err != nil {
		return err
	}
	// Debian puts daemons where a user's search path does not lead
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	goruntime.GOMAXPROCS(threads)
	p, err := newPlan(o)
	if err != nil {
		return err
	}
	for _, line := range p.missing {
		fmt.Fprintln(os.Stderr, "left out:", line)
	}
	fmt.Fprintf(os.Stderr, "%s; this takes about %v\n", p, p.duration().Round(10*time.Second))
	m := newMeter()
	defer m.close()
	began := time.Now()
	var results []result
	for _, u := range p.underlays {
		results = append(results, p.measure(u, m))
	}
	text := heading(p, m, time.Since(began)) + renderAll(p, results)
	fmt.Print("\n" + text)
	if o.write == "" {
		return nil
	}
	return replaceBetweenMarks(o.write, text)
}
