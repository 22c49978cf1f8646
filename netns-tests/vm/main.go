package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// options are what the command line says.
type options struct {
	kernel  string
	cache   string
	run     string
	skip    string
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
	flag.StringVar(&o.kernel, "kernel", "uml", "uml: User Mode Linux; debian: a kernel of Debian's in qemu, for what uml has not, ten times slower")
	flag.StringVar(&o.cache, "cache", "bin/vm", "where a kernel of Debian's is kept")
	flag.StringVar(&o.run, "run", "", "run only tests that match; for uml all but those with Debian in their names is the default, for debian these")
	flag.StringVar(&o.shell, "shell", "", "run this shell command in a guest, and no test")
	flag.StringVar(&o.memory, "mem", "1G", "memory of a guest")
	flag.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long one guest may take")
	flag.BoolVar(&o.verbose, "v", false, "show the console of the guest as it goes, and what tests say")
	flag.Parse()
	if o.run == "" && o.kernel == "debian" {
		o.run = "^TestDebian"
	} else if o.run == "" {
		o.run, o.skip = ".", "^TestDebian"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, packages []string) error {
	share, err := os.MkdirTemp("", "weave-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(share)
	if o.shell != "" {
		o.verbose = true
		_, err := boot(ctx, o, share, o.shell)
		return err
	}
	if len(packages) == 0 {
		packages = []string{"./netns-tests/vm/guest"}
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
	for i, p := range packages {
		if err := test(ctx, o, share, i, p, report); err != nil {
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

// test builds one package's tests, runs them in a guest and appends what happened to the report.
func test(ctx context.Context, o options, share string, n int, pkg string, report *os.File) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-tags", "remote", "-f", "{{.ImportPath}} {{.Dir}}", pkg).Output()
	if err != nil {
		return fmt.Errorf("list %s: %w", pkg, err)
	}
	var name, dir string
	if _, err := fmt.Sscan(string(out), &name, &dir); err != nil {
		return fmt.Errorf("list %s: %w", pkg, err)
	}
	binary := filepath.Join(share, fmt.Sprintf("%d.test", n))
	if err := build(ctx, "test", "-tags", "remote", "-c", "-o", binary, pkg); err != nil {
		return err
	}
	log, err := boot(ctx, o, share, fmt.Sprintf("cd %s && WEAVE_VM=1 WEAVE_BIN=%s %s -test.v=test2json -test.timeout %s -test.run %s -test.skip %s",
		quote(dir), quote(os.Getenv("WEAVE_BIN")), binary, o.timeout-10*time.Second, quote(o.run), quote(o.skip)))
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err) // the report will say that the tests did not end
	}
	convert := exec.CommandContext(ctx, "go", "tool", "test2json", "-t", "-p", name, "cat", log)
	convert.Stdout, convert.Stderr = report, os.Stderr
	if err := convert.Run(); err != nil {
		return fmt.Errorf("read the output of %s: %w", name, err)
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
