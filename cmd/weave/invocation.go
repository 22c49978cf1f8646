package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"weave/internal/api"
	"weave/internal/node"
)

// Exit codes that scripts know.
const (
	codeFailed   = 1
	codeDenied   = 2 // policy test: it is denied
	codeRunning  = 3 // launch: a daemon is running already
	codeNotFound = 4 // the daemon answered 404
	codeNoDaemon = 7 // nobody answers
)

// What Weave Net said when nobody answered, by why; "container" is the daemon to its users.
const (
	notPresent = "weave container is not present. Have you launched it?"
	stopped    = "weave container is not running."
	restarting = "weave container is restarting."
)

// invocation is one run of the command.
type invocation struct {
	stdout, stderr io.Writer
	dirs           dirs
	runNode        runNode
	resetNode      resetNode
}

// runNode is node.Run, resetNode is node.Reset.
type (
	runNode   func(ctx context.Context, cfg node.Config) error
	resetNode func(ctx context.Context, stateDir, runDir string, rootless bool) error
)

// exitError ends the command with a code, and a text on stderr unless that is empty.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// usageError ends the command with the usage text, after a line that says what was wrong, if any.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// removedVerbs went away with Weave Net 2.0; people still type them.
var removedVerbs = []string{
	"run", "start", "restart", "launch-router", "stop-router", "launch-proxy", "stop-proxy", "launch-plugin",
	"stop-plugin",
}

// run executes the arguments after the program's name and returns the exit code.
func (inv *invocation) run(ctx context.Context, args []string) int {
	if len(args) > 0 && args[0] == "--local" { // what Weave Net's script was told to run without a container
		args = args[1:]
	}
	err := inv.dispatch(ctx, args)
	if usage, ok := errors.AsType[*usageError](err); ok {
		if usage.text != "" {
			fmt.Fprintln(inv.stderr, usage.text)
		}
		fmt.Fprint(inv.stderr, usageOf(firstOf(args)))
		return codeFailed
	}
	code, text := inv.outcome(err)
	if text != "" {
		fmt.Fprintln(inv.stderr, text)
	}
	return code
}

// firstOf is the first of the arguments, "" without any.
func firstOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (inv *invocation) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return &usageError{}
	}
	verb, rest := args[0], args[1:]
	switch {
	case verb == "help" || verb == "--help" || verb == "-h":
		fmt.Fprint(inv.stderr, usageOf(firstOf(rest)))
		return nil
	case len(rest) > 0 && rest[0] == "--help" && verb != "version":
		fmt.Fprint(inv.stderr, usageOf(verb))
		return nil
	}
	for _, removed := range removedVerbs {
		if verb == removed {
			return &exitError{codeFailed, "The 'weave " + verb + "' command has been removed as of Weave Net version 2.0\n" +
				"Please see release notes for further information"}
		}
	}
	var err error
	if inv.dirs, err = findDirs(); err != nil {
		return err
	}
	for _, v := range inv.verbs() {
		if v.Name == verb {
			return inv.execute(ctx, v, rest)
		}
	}
	return &usageError{"Unknown weave command '" + verb + "'"}
}

// execute has the cli package parse one verb's arguments and call its action. We choose the verb, the help and the
// exit code ourselves: they are older than that package.
func (inv *invocation) execute(ctx context.Context, v *cli.Command, args []string) error {
	flags, positionals, err := sortArgs(v.Flags, args)
	if err != nil {
		return err
	}
	v.HideHelp = true
	v.OnUsageError = func(_ *cli.Context, err error, _ bool) error {
		if errors.Is(err, flag.ErrHelp) {
			return &usageError{}
		}
		return &usageError{err.Error()}
	}
	app := &cli.App{
		Name:        "weave",
		HideHelp:    true,
		HideVersion: true,
		// a comma is as good as any other character in a password
		DisableSliceFlagSeparator: true,
		Commands:                  []*cli.Command{v},
		Writer:                    inv.stdout,
		ErrWriter:                 inv.stderr,
		ExitErrHandler:            func(*cli.Context, error) {},
	}
	line := append([]string{"weave", v.Name}, flags...)
	line = append(append(line, "--"), positionals...)
	return app.RunContext(ctx, line)
}

// outcome maps an error to what Weave Net's users know: the exit code and the text on stderr.
func (inv *invocation) outcome(err error) (code int, text string) {
	if err == nil {
		return 0, ""
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code, e.text
	}
	if e, ok := errors.AsType[*api.StatusError](err); ok {
		if e.Code == http.StatusNotFound {
			return codeNotFound, ""
		}
		return codeFailed, e.Text
	}
	if errors.Is(err, api.ErrNotRunning) {
		return codeNoDaemon, inv.absence()
	}
	return codeFailed, err.Error()
}

// absence says in what way there is no daemon: a supervisor is about to start one again, one was stopped, or none was
// launched since the last reset.
func (inv *invocation) absence() string {
	holders, err := lockHolders(inv.dirs.lockPath())
	switch {
	case err == nil && len(holders) > 0:
		return restarting
	case inv.dirs.launched():
		return stopped
	}
	return notPresent
}

// client makes a client for the daemon of our run directory.
func (inv *invocation) client() *api.Client {
	c := api.NewClient(filepath.Join(inv.dirs.run, api.SocketName))
	c.Warn = func(text string) { inv.warn("%s", text) }
	return c
}

// print writes a daemon's answer, or passes its error on.
func (inv *invocation) print(text string, err error) error {
	if err != nil {
		return err
	}
	_, err = io.WriteString(inv.stdout, text)
	return err
}

func (inv *invocation) warn(format string, args ...any) {
	fmt.Fprintf(inv.stderr, "WARNING: "+format+"\n", args...)
}

// sortArgs puts flags before positionals, because the flag parser stops at the first positional and people write
// `weave launch HOST --password x`. Everything after "--" is positional.
func sortArgs(known []cli.Flag, args []string) (flags, positionals []string, err error) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return flags, append(positionals, args[i+1:]...), nil
		case len(arg) < 2 || arg[0] != '-':
			positionals = append(positionals, arg)
		default:
			flags = append(flags, arg)
			name := strings.TrimLeft(arg, "-")
			if !takesValue(known, name) {
				continue
			}
			if i++; i == len(args) {
				return nil, nil, &usageError{"flag needs an argument: -" + name}
			}
			flags = append(flags, args[i])
		}
	}
	return flags, positionals, nil
}

// takesValue tells whether the flag called name, as written, uses up the next argument.
func takesValue(known []cli.Flag, name string) bool {
	for _, f := range known {
		for _, n := range f.Names() {
			if n == name {
				_, isBool := f.(*cli.BoolFlag)
				return !isBool
			}
		}
	}
	return false // unknown, or --flag=value
}
