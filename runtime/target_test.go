package runtime

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]Target{
		"/proc/42/ns/net": {Kind: ByPath, Text: "/proc/42/ns/net", Path: "/proc/42/ns/net"},
		"./x":             {Kind: ByPath, Text: "./x", Path: "./x"},
		"web":             {Kind: ByName, Text: "web", Path: "/run/netns/web"},
		"4x":              {Kind: ByName, Text: "4x", Path: "/run/netns/4x"},
		"42":              {Kind: ByPID, Text: "42", Path: "/proc/42/ns/net"},
	} {
		got, err := ParseTarget(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(text, err, diff)
		}
	}
	for _, text := range []string{"", "0", "99999999999", "..", ".", "a\x00b"} {
		if got, err := ParseTarget(text); !errors.Is(err, ErrTarget) {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	f.Add("web")
	f.Add("42")
	f.Add("/proc/42/ns/net")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTarget(text)
		if err != nil {
			return
		}
		if got.Text != text || got.Path == "" || got.Kind != ByPath && strings.Contains(got.Path, "..") && strings.Count(got.Path, "/") != 3 {
			t.Fatalf("%+v", got)
		}
	})
}

func TestHostVeth(t *testing.T) {
	for inode, want := range map[uint64]string{
		0: "vethwepl0000000", 4026532841: "vethwepl1ulakmh", 1<<32 - 1: "vethwepl1z141z3", 1<<64 - 1: "vethwepl",
	} {
		got := HostVeth(Identity{Inode: inode})
		if !strings.HasPrefix(got, want) || len(got) != 15 {
			t.Errorf("%d: %s", inode, got)
		}
	}
}

// Golden bytes, written down from the RFCs by hand; the ICMPv6 checksum checks itself.
func TestAnnouncement(t *testing.T) {
	mac := MAC{2, 0, 0, 0, 0, 5}
	arp := "ffffffffffff" + "020000000005" + "0806" + "0001" + "0800" + "06" + "04" + "0001" +
		"020000000005" + "0a020105" + "000000000000" + "0a020105"
	if got := hex.EncodeToString(Announcement(mac, netip.MustParseAddr("10.2.1.5"))); got != arp {
		t.Error(got)
	}
	na := Announcement(mac, netip.MustParseAddr("fd00::5"))
	sum := hex.EncodeToString(na[56:58])
	want := "333300000001" + "020000000005" + "86dd" + "60000000" + "0020" + "3a" + "ff" +
		"fd000000000000000000000000000005" + "ff020000000000000000000000000001" +
		"88" + "00" + sum + "20000000" + "fd000000000000000000000000000005" + "02" + "01" + "020000000005"
	if got := hex.EncodeToString(na); got != want {
		t.Error(got)
	}
	if left := icmpv6Sum([16]byte(na[22:38]), [16]byte(na[38:54]), na[54:]); left != 0 {
		t.Errorf("checksum is off by %#x", left)
	}
}

func TestOverlaps(t *testing.T) {
	routes := []Route{
		{netip.MustParsePrefix("0.0.0.0/0"), "eth0"},
		{netip.MustParsePrefix("10.0.0.0/8"), "eth0"},
		{netip.MustParsePrefix("10.2.1.0/24"), "weave"},
		{netip.MustParsePrefix("fd00::/8"), "eth1"},
	}
	got := Overlaps(prefixes("10.2.1.5/24", "192.168.1.1/24", "fd12::1/64"), routes, "weave")
	if len(got) != 2 || !strings.Contains(got[0], "10.2.1.5/24") || !strings.Contains(got[0], "10.0.0.0/8 via eth0") ||
		!strings.Contains(got[1], "fd12::1/64") {
		t.Error(got)
	}
}
