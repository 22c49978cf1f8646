package main

import (
	"slices"
	"strings"
)

// usageColumns is where a verb begins in usageText, usageWidth where its arguments do.
const (
	usageColumns = 6
	usageWidth   = 20
)

// usageOf is what of usageText is about one verb; all of it for an unknown one.
func usageOf(verb string) string {
	commands, rest, _ := strings.Cut(usageText, "\nwhere ")
	where, _, _ := strings.Cut("where "+rest, "\n\n")
	var of []string
	about := false
	for _, line := range strings.Split(commands, "\n") {
		if len(line) > usageColumns && line[usageColumns] != ' ' {
			about = slices.Contains(strings.Fields(line[usageColumns:min(len(line), usageWidth)]), verb)
		}
		if about && line != "" {
			of = append(of, strings.Repeat(" ", usageColumns)+line[usageColumns:])
		}
	}
	if len(of) == 0 {
		return usageText
	}
	of[0] = "weave" + of[0][len("weave"):]
	text := "Usage:\n\n" + strings.Join(of, "\n") + "\n"
	return text + meanings(text, where)
}

// meanings explains the placeholders in a text, and those in their explanations.
func meanings(text, where string) string {
	var out []string
	about := false
	for _, line := range strings.Split(where, "\n") {
		if line[usageColumns] == '<' {
			name, _, _ := strings.Cut(line[usageColumns:], " ")
			about = strings.Contains(text+strings.Join(out, ""), name)
		}
		if about {
			out = append(out, strings.Repeat(" ", usageColumns)+line[usageColumns:])
		}
	}
	if len(out) == 0 {
		return ""
	}
	out[0] = "where" + out[0][len("where"):]
	return "\n" + strings.Join(out, "\n") + "\n"
}

// usageText is what help prints; what a wrong command line gets is of it what the verb has.
const usageText = `Usage:

weave --help | help [<verb>]
      version

weave launch        [--name <peername>] [--nickname <nickname>]
                    [--password <password> ...] [--password-file <file>]
                    [--port <port>] [--host <ip>] [--advertise-address <ip>[:<port>] ...]
                    [--trusted-subnets <cidr>,...]
                    [--no-discovery] [--conn-limit <count>] [--resume]
                    [--mtu <bytes>|auto] [--no-fastdp] [--fastdp-encryption auto|ipsec|wireguard]
                    [--tap auto|kernel|water] [--queues <count>]
                    [--log-level debug|info|warning|error]
                    [--http-addr <addr>] [--status-addr <addr>]
                    [--ipalloc-range <cidr>] [--ipalloc-default-subnet <cidr>]
                    [--ipalloc-init consensus[=<count>]|seed=<peername>,...|observer]
                    [--ipalloc-range-v6 <cidr>] [--ipv6=false]
                    [--reclaim-after <duration>]
                    [--no-dns] [--dns-domain <domain>] [--dns-ttl <seconds>]
                    [--dns-listen-address <ip>:<port>] [--dns-upstream <ip>[:<port>] ...]
                    [--dns-fallback-timeout <duration>] [--resolv-conf <file>]
                    [--runtime docker|podman|docker,podman|auto|none]
                    [--docker-api <endpoint>] [--podman-api <endpoint>]
                    [--proxy=false] [-H <endpoint> ...] [--without-dns]
                    [--no-default-ipalloc] [--no-rewrite-hosts]
                    [--no-multicast-route] [--rewrite-inspect]
                    [--hostname-from-label <label>] [--hostname-match <regexp>]
                    [--hostname-replacement <replacement>]
                    [--tls] [--tlsverify] [--tlscacert <file>] [--tlscert <file>]
                    [--tlskey <file>]
                    [--allow-spoof] [--egress] [--no-restart] [--foreground] [<peer> ...]

weave connect       [--replace] [<peer> ...]
      forget        <peer> ...

weave attach        [<addr> ...] [--name <name> ... | -h <fqdn>] [--without-dns]
                    [--resolv-conf] [--rewrite-hosts] [--add-host <host>:<ip> ...]
                    [--no-multicast-route] [--wait <duration>] <target>
      detach        [<addr> ...] [--wait <duration>] <target>

weave expose        [<addr> ...] [-h <fqdn>] [--without-masquerade]
                    [--publish [<ip>:]<port>:<name>:<port>[/udp] ...]
                    [--import <port>:<host>:<port>[/udp] ...]
      hide          [<addr> ...]

weave service       export <exported> <host>:<port> ...
                    import <imported> <host>:<port> ...
                    bind   <exported> | <imported>  <host>:<port> ...
                    remove <exported> | <imported> ...
                    list

weave policy        set <file> | -
                    show | clear | status
                    test <end> <end> [[tcp|udp|sctp/]<port> | icmp]

weave proxy         [<ip>:<port>] | --off
      ping          [-c <count>] <name> | <ip>
      nc | dial     <name> | <ip>  <port>

weave dns-add       [<ip_address> ...] <target> [-h <fqdn>] [--service <service> ...]
                    <ip_address> ... -h <fqdn> [--service <service> ...]
      dns-remove    [<ip_address> ...] <target> [-h <fqdn>]
                    <ip_address> ... -h <fqdn>
      dns-lookup    <unqualified_name>
      dns-args
      dns-setup     [--apply]

weave prime         [--wait <duration>]
      rmpeer        <peer_id> ...
      ipam          check [--repair]

weave password      add <password> | add --file <file>
                    retire <password> | retire <id> | retire --file <file>
                    list

weave status        [targets | connections | peers | dns | ipam]
      report        [-f <format>]
      ps            [<target> ...]

weave env           [--restore]
      config

weave setup-podman  [--all] [--hooks-dir <directory>] [--remove]

weave stop
      reset         [--force]

where <peer>     = <ip_address_or_fqdn>[:<port>]
      <addr>     = [ip:]<cidr> | net:<cidr> | net:default
      <cidr>     = <ip_address>/<routing_prefix_length>
      <peer_id>  = nickname or name of a peer
      <duration> = e.g. 30s, 5m, 24h
      <target>   = [docker:|podman:]<container> | path of a network namespace
                   | name under /run/netns | pid
      <endpoint> = unix:///path | tcp://host:port
      <peername> = six bytes in hex, e.g. 8a:3e:3e:3e:3e:3e
      <exported> = [<ip>:]<port>[/udp], of this host
      <imported> = <unqualified_name>[:<port>][/udp], in the network
      <end>      = name or id of a container, or an address in the network
      <service>  = [<name>/]tcp|udp|sctp/<port>, found by SRV queries
      <format>   = a Go template over the fields of the report

State is kept in WEAVE_STATE_DIR (/var/lib/weave for root, else
~/.local/state/weave), sockets in WEAVE_RUN_DIR (/run/weave for root, else
$XDG_RUNTIME_DIR/weave).
`
