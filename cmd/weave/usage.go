package main

// usageText is what help prints, and what a wrong command line gets.
const usageText = `Usage:

weave --help | help
      version

weave launch        [--name <name>] [--nickname <nickname>]
                    [--password <password> ...] [--password-file <file>]
                    [--port <port>] [--host <ip>] [--advertise-address <ip>[:<port>] ...]
                    [--trusted-subnets <cidr>,...]
                    [--no-discovery] [--conn-limit <count>] [--resume]
                    [--mtu <bytes>|auto] [--no-fastdp] [--tap auto|kernel|water] [--queues <count>]
                    [--log-level debug|info|warning|error]
                    [--http-addr <addr>] [--status-addr <addr>]
                    [--ipalloc-range <cidr>] [--ipalloc-default-subnet <cidr>]
                    [--ipalloc-init consensus[=<count>]|seed=<name>,...|observer]
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
                    [--egress] [--no-restart] [--foreground] [<peer> ...]

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

weave proxy         [<ip>:<port>] | --off
      ping          [-c <count>] <name> | <ip>
      nc            <name> | <ip>  <port>

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
      <name>     = six bytes in hex, e.g. 8a:3e:3e:3e:3e:3e
      <exported> = [<ip>:]<port>[/udp], of this host
      <imported> = <unqualified_name>[:<port>][/udp], in the network
      <service>  = [<name>/]tcp|udp|sctp/<port>, found by SRV queries
      <format>   = a Go template over the fields of the report

State is kept in WEAVE_STATE_DIR (/var/lib/weave for root, else
~/.local/state/weave), sockets in WEAVE_RUN_DIR (/run/weave for root, else
$XDG_RUNTIME_DIR/weave).
`
