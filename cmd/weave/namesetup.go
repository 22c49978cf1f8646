package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
)

// ourMark begins files that we may write over.
const ourMark = "# written by weave; it may write this file again\n"

// writeResolvConf has processes that `ip netns exec NAME` starts use our names: it mounts the files of /etc/netns/NAME over
// those of /etc.
func (inv *invocation) writeResolvConf(ctx context.Context, target string) error {
	if strings.ContainsAny(target, "/\x00") || strings.Trim(target, "0123456789") == "" {
		return &exitError{codeFailed, "--resolv-conf is for namespaces that are named: " + target + " is not a name under /run/netns"}
	}
	at, domain, err := inv.nameServer(ctx)
	if err != nil {
		return err
	}
	if domain == "" {
		return &exitError{codeFailed, "--resolv-conf: no names are served here"}
	}
	dir := filepath.Join("/etc/netns", target)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return writeOurs(filepath.Join(dir, "resolv.conf"), fmt.Sprintf("nameserver %s\nsearch %s\n", at.Addr(), strings.TrimSuffix(domain, ".")))
}

// writeOurs writes a file unless somebody else's is there.
func writeOurs(path, text string) error {
	old, err := os.ReadFile(path)
	switch {
	case err == nil && !strings.HasPrefix(string(old), ourMark):
		return &exitError{codeFailed, path + " exists and is not ours; remove it, or add to it:\n" + text}
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	}
	return os.WriteFile(path, []byte(ourMark+text), 0o644)
}

// setup is how a host's own resolver is told about the domain.
type setup struct {
	about    string
	commands [][]string
	file     string // to write, "" = none
	text     string
	manual   bool // only the operator can do it
}

// dnsSetup prints how the host itself can use our names, or does it.
func (inv *invocation) dnsSetup(c *cli.Context) error {
	if c.NArg() > 0 {
		return &usageError{}
	}
	address, domain, err := inv.client().NameServer(c.Context)
	if err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	s := chooseSetup("/", at, strings.TrimSuffix(domain, "."))
	if !c.Bool("apply") {
		return inv.print(s.String(), nil)
	}
	if s.manual {
		return &exitError{codeFailed, "this has to be done by hand:\n" + s.String()}
	}
	return inv.apply(c.Context, s)
}

// chooseSetup looks which resolver a host has, below root.
func chooseSetup(root string, at netip.AddrPort, domain string) setup {
	there := func(path string) bool { _, err := os.Stat(filepath.Join(root, path)); return err == nil }
	server := at.Addr().String()
	if at.Port() != 53 {
		server = at.String()
	}
	switch {
	case there("run/systemd/resolve/stub-resolv.conf"):
		link := interfaceOf(at.Addr())
		return setup{
			about:    "systemd-resolved: ask weave for " + domain + " and nothing else (until the next boot, or launch)",
			commands: [][]string{{"resolvectl", "dns", link, server}, {"resolvectl", "domain", link, "~" + domain}},
		}
	case there("etc/NetworkManager/dnsmasq.d"):
		return setup{
			about:    "NetworkManager with dnsmasq: ask weave for " + domain + " and nothing else",
			file:     filepath.Join(root, "etc/NetworkManager/dnsmasq.d/weave.conf"),
			text:     fmt.Sprintf("server=/%s/%s\n", domain, strings.Replace(server, ":", "#", 1)),
			commands: [][]string{{"nmcli", "general", "reload", "dns-full"}},
		}
	}
	return setup{
		about:  "resolv.conf: have these two lines before the others in /etc/resolv.conf.\nweave asks the other name servers there for what is not in " + domain,
		text:   fmt.Sprintf("nameserver %s\nsearch %s\n", at.Addr(), domain),
		manual: true,
	}
}

// interfaceOf is the interface that has an address; "weave" if none has it.
func interfaceOf(a netip.Addr) string {
	list, _ := net.Interfaces()
	for _, i := range list {
		addrs, _ := i.Addrs()
		for _, have := range addrs {
			if p, err := netip.ParsePrefix(have.String()); err == nil && p.Addr() == a {
				return i.Name
			}
		}
	}
	return "weave"
}

// String is the setup as commands and files for a reader.
func (s setup) String() string {
	var b strings.Builder
	for line := range strings.Lines(s.about + "\n") {
		b.WriteString("# " + line)
	}
	switch {
	case s.file != "":
		fmt.Fprintf(&b, "echo '%s' > %s\n", strings.TrimSpace(s.text), s.file)
	case s.text != "":
		b.WriteString(s.text)
	}
	for _, c := range s.commands {
		b.WriteString(strings.Join(c, " ") + "\n")
	}
	return b.String()
}

func (inv *invocation) apply(ctx context.Context, s setup) error {
	if s.file != "" {
		if err := writeOurs(s.file, s.text); err != nil {
			return err
		}
	}
	for _, c := range s.commands {
		cmd := exec.CommandContext(ctx, c[0], c[1:]...)
		cmd.Stderr = inv.stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(c, " "), err)
		}
	}
	return nil
}
