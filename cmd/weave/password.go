package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

// passwordFlags are those of the password verb.
func passwordFlags() []cli.Flag { return []cli.Flag{&cli.StringFlag{Name: "file"}} }

// password changes or lists what the running daemon accepts. A password on the command line can be seen by others of
// the machine, one in a file or on standard input cannot.
func (inv *invocation) password(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) == 0 {
		return &usageError{}
	}
	what, rest := args[0], args[1:]
	if what == "list" && len(rest) == 0 && !c.IsSet("file") {
		return inv.print(inv.client().Passwords(c.Context))
	}
	if what != "add" && what != "retire" || len(rest) > 1 || (len(rest) == 1) == c.IsSet("file") {
		return &usageError{}
	}
	word := strings.Join(rest, "")
	if c.IsSet("file") {
		words, err := readPasswords(c.String("file"))
		if err != nil {
			return err
		}
		if len(words) != 1 {
			return fmt.Errorf("%s holds %d passwords, should be one", c.String("file"), len(words))
		}
		word = words[0]
	}
	if what == "add" {
		return inv.client().AddPassword(c.Context, word)
	}
	return inv.client().RetirePassword(c.Context, word)
}

// readPasswords reads one password a line, from a file or, for "-", from standard input.
func readPasswords(path string) ([]string, error) {
	in := io.Reader(os.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read the password file: %w", err)
		}
		defer f.Close()
		in = f
	}
	var out []string
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if line := strings.TrimRight(lines.Text(), "\r"); line != "" {
			out = append(out, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cannot read the password file: %w", err)
	}
	return out, nil
}

// launchPasswords are those of launch's flags; without any, what the environment says.
func launchPasswords(c *cli.Context) ([]string, error) {
	out := c.StringSlice("password")
	if c.IsSet("password-file") {
		more, err := readPasswords(c.String("password-file"))
		if err != nil {
			return nil, err
		}
		if len(more) == 0 {
			return nil, fmt.Errorf("%s holds no password", c.String("password-file"))
		}
		out = append(out, more...)
	}
	if len(out) == 0 {
		out = strings.Split(os.Getenv("WEAVE_PASSWORD"), "\n")
	}
	var kept []string
	for _, p := range out {
		if strings.ContainsAny(p, "\r\n") {
			return nil, fmt.Errorf("a password must be one line")
		}
		if p != "" {
			kept = append(kept, p)
		}
	}
	return kept, nil
}
