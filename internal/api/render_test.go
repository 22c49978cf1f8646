package api

import (
	"flag"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// busyReport has a connection in every state and two peers.
func busyReport() Report {
	const host1, host2 = "8a:3e:3e:3e:3e:3e", "7a:42:00:00:00:02"
	return Report{
		Ready:   true,
		Version: "1.2.3",
		Router: Router{
			Mesh: Mesh{
				Protocol: "weave", ProtocolMinVersion: 1, ProtocolMaxVersion: 2,
				Encryption: true, PeerDiscovery: true, Name: host1, NickName: "host1", Port: 6783,
				Peers: []Peer{
					{Name: host1, NickName: "host1", UID: 1, Version: 7, Connections: []PeerConnection{
						{Name: host2, NickName: "host2", Address: "10.48.12.102:6783", Outbound: true, Established: true},
					}},
					{Name: host2, NickName: "host2", UID: 2, Version: 3, Connections: []PeerConnection{
						{Name: host1, NickName: "host1", Address: "10.48.12.101:40422", Established: true},
						{Name: "5e:11:00:00:00:03", NickName: "a-host-with-a-long-nickname", Address: "[fd00:1234:5678::103]:6783"},
					}},
				},
				UnicastRoutes:   []UnicastRoute{{Dest: host1, Via: "00:00:00:00:00:00"}, {Dest: host2, Via: host2}},
				BroadcastRoutes: []BroadcastRoute{{Source: host1, Via: []string{host2}}},
				Connections: []Connection{
					{
						Address: "10.48.12.102:6783", Outbound: true, State: StateEstablished,
						Info:  ConnectionInfo(true, true, "fastdp", host2+"(host2)"),
						Attrs: map[string]any{"name": "fastdp", "mtu": 1376, "encrypted": true},
					},
					{
						Address: "10.48.12.103:40422", State: StatePending,
						Info:  ConnectionInfo(true, false, "sleeve", "5e:11:00:00:00:03(host3)"),
						Attrs: map[string]any{"name": "sleeve", "mtu": 1376},
					},
					{
						Address: "10.2.2.1:6783", Outbound: true, State: StateFailed,
						Info: "dial tcp4 :0->10.2.2.1:6783: connect: no route to host, retry: 2022-02-02 02:02:02 +0000 UTC",
					},
					{Address: "10.48.12.101:6783", Outbound: true, State: StateFailed, Info: "cannot connect to ourself, retry: never"},
					{Address: "10.9.9.9:6783", Outbound: true, State: StateRetrying, Info: "dial tcp4 :0->10.9.9.9:6783: i/o timeout"},
					{Address: "10.9.9.8:6783", Outbound: true, State: StateConnecting},
				},
				Targets: []string{"host2", "10.2.2.1", "10.9.9.9:6783"},
			},
			TrustedSubnets: []string{"10.48.0.0/16", "10.49.0.0/16"},
		},
	}
}

func quietReport() Report {
	return Report{Version: "1.2.3", Router: Router{Mesh: Mesh{
		Protocol: "weave", ProtocolMinVersion: 3, ProtocolMaxVersion: 3,
		Name: "8a:3e:3e:3e:3e:3e", NickName: "host1",
		Peers: []Peer{{Name: "8a:3e:3e:3e:3e:3e", NickName: "host1"}},
	}}}
}

func TestRender(t *testing.T) {
	golden(t, "status-busy.txt", RenderStatus(busyReport()))
	golden(t, "status-quiet.txt", RenderStatus(quietReport()))
	golden(t, "targets.txt", RenderTargets(busyReport()))
	golden(t, "connections.txt", RenderConnections(busyReport()))
	golden(t, "peers.txt", RenderPeers(busyReport()))
	for name, text := range map[string]string{
		"targets": RenderTargets(quietReport()), "connections": RenderConnections(quietReport()),
	} {
		if text != "" {
			t.Errorf("%s of a lonely peer: %q, want nothing", name, text)
		}
	}
}

// The colon of every label stands in column 16: people cut the text there.
func TestStatusColumn(t *testing.T) {
	for line := range strings.Lines(RenderStatus(busyReport())) {
		if line != "\n" && strings.Index(line, ": ") != 15 {
			t.Errorf("colon not in column 16: %q", line)
		}
	}
}

func TestVersionCheckText(t *testing.T) {
	next := time.Date(2022, 2, 3, 4, 5, 6, 0, time.UTC)
	for want, check := range map[string]VersionCheck{
		"version check update disabled": {},
		"failed to check latest version - see logs; next check at 2022/02/03 04:05:06": {Enabled: true, NextCheckAt: next},
		"version 9.9 available - please upgrade!":                                      {Enabled: true, Success: true, NewVersion: "9.9"},
		"up to date; next check at 2022/02/03 04:05:06":                                {Enabled: true, Success: true, NextCheckAt: next},
	} {
		if got := versionCheck(check); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestConnectionInfo(t *testing.T) {
	for _, c := range []struct {
		password, encrypted bool
		want                string
	}{
		{false, false, "sleeve p(h)"},
		{true, true, "encrypted   sleeve p(h)"},
		{true, false, "unencrypted sleeve p(h)"},
	} {
		if got := ConnectionInfo(c.password, c.encrypted, "sleeve", "p(h)"); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got, want := ConnectionInfo(false, false, "none", "p(h)"), "none   p(h)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPathText(t *testing.T) {
	direct := Path{Kind: "direct", Address: "10.0.0.2:6783", RTT: 0.41, MTU: 1376}
	sealed, refused := direct, direct
	sealed.Shield = "wireguard"
	refused.Reason = "no fastdp: not offered by the other end"
	for _, c := range []struct {
		path Path
		want string
	}{
		{direct, "direct 10.0.0.2:6783 rtt=0.41ms loss=0% mtu=1376"},
		{sealed, "direct 10.0.0.2:6783 rtt=0.41ms loss=0% mtu=1376 shield=wireguard"},
		{refused, "direct 10.0.0.2:6783 rtt=0.41ms loss=0% mtu=1376 (no fastdp: not offered by the other end)"},
		{Path{Kind: "relayed", Via: "0a:30(host3)"}, "relayed via 0a:30(host3)"},
	} {
		if got := c.path.text(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestRenderContainers(t *testing.T) {
	mac := net.HardwareAddr{0x02, 0, 0, 0, 0, 1}
	id := strings.Repeat("0123456789abcdef", 4)
	all := []Container{
		{ID: "weave:expose", MAC: mac, Addresses: []netip.Prefix{netip.MustParsePrefix("10.2.1.9/24")}},
		{ID: id, MAC: mac, Addresses: []netip.Prefix{netip.MustParsePrefix("10.2.1.1/24"), netip.MustParsePrefix("fd00::1/64")}},
		{ID: "a-namespace-with-a-long-name", MAC: mac},
	}
	golden(t, "ps.txt", RenderContainers(all, false))
	if got, want := RenderContainers(all[1:2], true), id+" 02:00:00:00:00:01 10.2.1.1/24 fd00::1/64\n"; got != want {
		t.Errorf("asked for by name: got %q, want %q", got, want)
	}
	if got := RenderContainers(nil, false); got != "" {
		t.Errorf("nothing attached: got %q", got)
	}
}
