package main

import (
	"context"
	"errors"
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
	flag.StringVar(&o.run, "run", "", "run only tests that match; without it debian runs those with Debian in their names, which uml never does")
	flag.StringVar(&o.shell, "shell", "", "run this shell command in a guest, and no test")
	flag.StringVar(&o.memory, "mem", "1G", "memory of a guest")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Minute, "how long one guest may take")
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
		if err := test(ctx, o, kernel, share, report); err != nil {
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
func test(ctx context.Context, o options, kernel, share string, report *os.File) error {
	dir, err := filepath.Abs(tests)
	if err != nil {
		return err
	}
	binary := filepath.Join(share, "guest.test")
	if err := build(ctx, "test", "-tags", "remote", "-c", "-o", binary, tests); err != nil {
		return err
	}
	weave := filepath.Join(share, "weave") // the guest may not see where it is
	if out, err := exec.CommandContext(ctx, "cp", os.Getenv("WEAVE_BIN"), weave).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the weave binary, WEAVE_BIN: %w: %s", err, out)
	}
	pattern, skip := o.run, ""
	switch {
	case kernel == "uml":
		skip = onDebian
	case pattern == "":
		pattern = onDebian
	}
	log, failed := boot(ctx, o, kernel, share, fmt.Sprintf("cd %s && WEAVE_VM=1 WEAVE_BIN=%s %s -test.v=test2json -test.timeout %s -test.run %s -test.skip %s",
		quote(dir), weave, binary, o.timeout-10*time.Second, quote(pattern), quote(skip)))
	code := "0"
	if failed != nil {
		code = "1" // whatever the tests said
		fmt.Fprintf(os.Stderr, "vm: %s: %v\n", kernel, failed)
	}
	convert := exec.CommandContext(ctx, "go", "tool", "test2json", "-t", "-p", "weave/netns-tests/vm/guest/"+kernel,
		"sh", "-c", `cat "$0"; exit "$1"`, log, code)
	convert.Stdout, convert.Stderr = report, os.Stderr
	var exit *exec.ExitError
	if err := convert.Run(); err != nil && !errors.As(err, &exit) {
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
