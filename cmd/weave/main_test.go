package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets test scripts, and the processes the program starts, run this binary under three names: weave is the
// program, weave-fake the program around a fake node, helper what tests need another process for.
func TestMain(m *testing.M) {
	keepMainThread()
	os.Setenv("GORACE", noExitPause)
	testscript.Main(m, map[string]func(){
		"weave":      main,
		"weave-fake": func() { os.Exit(mainWith(runFakeNode, resetFakeNode)) },
		"helper":     helperMain,
	})
}

// noExitPause spares each process the second that the race detector waits at its end.
const noExitPause = "atexit_sleep_ms=0"

// TestScript runs the transcripts. Beside testscript's own commands they have:
//
//	code N PROGRAM ARG…   run it and expect exit code N
//	strike                kill -9 the daemon of this script, but not its supervisor
//	unexposed WORD        fail when the command line of the daemon or its supervisor has the word
//	await LINE ARG…       repeat `weave-fake ARG…` until its output is that line
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{
				"WEAVE_PASSWORD", "WEAVE_PORT", "WEAVE_MTU", envRole, envInstance, "XDG_RUNTIME_DIR", "XDG_STATE_HOME",
				"PROXY_HOST",
			} {
				env.Setenv(name, "")
			}
			// Run directories have short names: a socket's path is limited.
			run, err := os.MkdirTemp("", "weave")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(run) })
			env.Setenv("GORACE", noExitPause)
			env.Setenv("WEAVE_STATE_DIR", filepath.Join(env.WorkDir, "state"))
			env.Setenv("WEAVE_RUN_DIR", run)
			env.Setenv("WEAVE_HTTP_ADDR", filepath.Join(run, "http"))
			env.Setenv("WEAVE_STATUS_ADDR", filepath.Join(run, "status"))
			env.Defer(func() { stopAll(filepath.Join(run, "weave.lock")) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": scriptCode, "strike": scriptStrike, "await": scriptAwait, "unexposed": scriptUnexposed,
		},
	})
}

func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program arg...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// scriptStrike kills what holds the daemon's lock; the supervisor's comes first in the list.
func scriptStrike(ts *testscript.TestScript, _ bool, _ []string) {
	pids, err := lockHolders(filepath.Join(ts.Getenv("WEAVE_RUN_DIR"), "weave.lock"))
	ts.Check(err)
	if len(pids) == 0 {
		ts.Fatalf("nothing runs")
	}
	process, err := os.FindProcess(pids[len(pids)-1])
	ts.Check(err)
	ts.Check(process.Kill())
}

func scriptUnexposed(ts *testscript.TestScript, _ bool, args []string) {
	pids, err := lockHolders(filepath.Join(ts.Getenv("WEAVE_RUN_DIR"), "weave.lock"))
	ts.Check(err)
	if len(pids) != 2 {
		ts.Fatalf("want a supervisor and a daemon, have %v", pids)
	}
	for _, pid := range pids {
		line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		ts.Check(err)
		if strings.Contains(string(line), args[0]) {
			ts.Fatalf("%q is in %q", args[0], line)
		}
	}
}

// scriptAwait polls: each try is a process, so there is no sleep.
func scriptAwait(ts *testscript.TestScript, _ bool, args []string) {
	for range 1000 {
		if err := ts.Exec("weave-fake", args[1:]...); err == nil && ts.ReadFile("stdout") == args[0]+"\n" {
			return
		}
	}
	ts.Fatalf("never said %q", args[0])
}

// stopAll ends what a failed script left running.
func stopAll(lock string) {
	pids, _ := lockHolders(lock)
	for _, pid := range pids {
		if process, err := os.FindProcess(pid); err == nil && pid > 1 {
			_ = process.Kill()
		}
	}
}

// helperMain is a process for tests: `exit N`, `lock FILE PLACE` (says "locked" and holds it until stdin ends), `wait`
// (until stdin ends).
func helperMain() {
	switch os.Args[1] {
	case "exit":
		code, _ := strconv.Atoi(os.Args[2])
		os.Exit(code)
	case "lock":
		place, _ := strconv.ParseInt(os.Args[3], 10, 64)
		if _, err := takeLock(os.Args[2], place); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		_, _ = os.Stdin.Read(make([]byte, 1))
	case "wait":
		_, _ = os.Stdin.Read(make([]byte, 1))
	}
}
