package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// options are what the command line says.
type options struct {
	kernels string
	cache   string
	run     string
	shell   string
	memory  string
	timeout time.Duration
	verbose bool
}

func main() {
	if os.Getpid() == 1 && os.Args[0] == "/init" {
		fmt.Println("vm:", bootRamdisk())
		return // and the kernel panics, which ends the guest
	}
	o := options{}
	flag.StringVar(&o.kernels, "kernel", "uml", "comma-separated; uml: User Mode Linux; debian: a kernel of Debian's in qemu, for what uml has not, ten times slower")
	flag.StringVar(&o.cache, "cache", "bin/vm", "where a kernel of Debian's is kept")
	flag.StringVar(&o.run, "run", "", "run only tests that match; those with Debian in their names are run on that kernel, all others on uml if that is among the kernels")
	flag.StringVar(&o.shell, "shell", "", "run this shell command in a guest, and no test")
	flag.StringVar(&o.memory, "mem", "1G", "memory of a guest")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "how long one guest may take")
	flag.BoolVar(&o.verbose, "v", false, "show the console of the guest as it goes, and what tests say")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	share, err := os.MkdirTemp("", "weave-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(share)
	if o.shell != "" {
		o.verbose = true
		_, err := boot(ctx, o, o.kernels, share, o.shell)
		return err
	}
	summary := filepath.Join(share, "testsummary")
	if err := build(ctx, "build", "-o", summary, "./scripts/testsummary"); err != nil {
		return err
	}
	report, err := os.Create(filepath.Join(share, "report.json"))
	if err != nil {
		return err
	}
	defer report.Close()
	for _, kernel := range strings.Split(o.kernels, ",") {
		skip := ""
		if kernel == "uml" {
			skip = onDebian
		} else if strings.Contains(o.kernels, "uml") {
			skip = "^Test([^D]|D[^e]|De[^b])" // all that is not onDebian: there is no other way to say it
		}
		if err := test(ctx, o, kernel, skip, share, report); err != nil {
			return err
		}
	}
	if _, err := report.Seek(0, 0); err != nil {
		return err
	}
	// A skipped test would have had all it needs: the guest is there for it.
	cmd := exec.CommandContext(ctx, summary, "-no-skips", "weave")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = report, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("not all tests passed")
	}
	return nil
}

const (
	tests    = "./netns-tests/vm/guest"
	onDebian = "^TestDebian" // tests that need more than User Mode Linux has
)

// test builds the tests, runs them in a guest and appends what happened to the report.
func test(ctx context.Context, o options, kernel, skip, share string, report *os.File) error {
	dir, err := filepath.Abs(tests)
	if err != nil {
		return err
	}
	binary := filepath.Join(share, "guest.test")
	if err := build(ctx, "test", "-tags", "remote", "-c", "-o", binary, tests); err != nil {
		return err
	}
	log, err := boot(ctx, o, kernel, share, fmt.Sprintf("cd %s && WEAVE_VM=1 WEAVE_BIN=%s %s -test.v=test2json -test.timeout %s -test.run %s -test.skip %s",
		quote(dir), quote(os.Getenv("WEAVE_BIN")), binary, o.timeout-10*time.Second, quote(o.run), quote(skip)))
	if log == "" {
		return err
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err) // the report will say so too
	}
	convert := exec.CommandContext(ctx, "go", "tool", "test2json", "-t", "-p", "weave/netns-tests/vm/guest-"+kernel, "cat", log)
	convert.Stdout, convert.Stderr = report, os.Stderr
	if err := convert.Run(); err != nil {
		return fmt.Errorf("read what the tests said: %w", err)
	}
	return nil
}

func build(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // static, so that it does not matter what the guest has
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %v: %w", args, err)
	}
	return nil
}
