package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"
	mnl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A table that belongs to another program cannot be changed: that is said, and does not keep other chains from it.
func TestExposeBesideAnOwner(t *testing.T) {
	h := host(t)
	conn, err := mnl.Dial(unix.NETLINK_NETFILTER, &mnl.Config{NetNS: int(h.space.file.Fd())})
	must(t, err)
	defer conn.Close()
	ownedChain(t, conn, "firewalld", "filter_FORWARD")
	c := stranger(t, h, nftables.TableFamilyIPv4, "filter", "FORWARD", nftables.ChainPolicyDrop)
	w := expose(t, h, nil, "10.2.1.10/24")
	if len(w) != 1 || !strings.Contains(w[0], "filter_FORWARD of the nftables table firewalld") {
		t.Error(w)
	}
	if got, _ := oursIn(t, h, c); len(got) != 3 {
		t.Errorf("in the chain that can be changed: %v", got)
	}
	must(t, h.Reset())
}

// ownedChain makes a table that only this socket may change, with a chain that drops what passes the host.
func ownedChain(t *testing.T, conn *mnl.Conn, table, chain string) {
	t.Helper()
	be := binary.BigEndian
	attributes := func(list ...mnl.Attribute) []byte {
		b, err := mnl.MarshalAttributes(list)
		must(t, err)
		return append([]byte{unix.NFPROTO_INET, 0, 0, 0}, b...)
	}
	word := func(kind uint16, n uint32) mnl.Attribute {
		return mnl.Attribute{Type: kind, Data: be.AppendUint32(nil, n)}
	}
	text := func(kind uint16, s string) mnl.Attribute {
		return mnl.Attribute{Type: kind, Data: append([]byte(s), 0)}
	}
	hook, err := mnl.MarshalAttributes([]mnl.Attribute{word(unix.NFTA_HOOK_HOOKNUM, 2), word(unix.NFTA_HOOK_PRIORITY, 10)})
	must(t, err)
	message := func(kind int, data []byte) mnl.Message {
		return mnl.Message{Header: mnl.Header{Type: mnl.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: mnl.Request | mnl.Create}, Data: data}
	}
	batch := func(kind mnl.HeaderType) mnl.Message {
		return mnl.Message{Header: mnl.Header{Type: kind, Flags: mnl.Request}, Data: []byte{0, 0, 0, unix.NFNL_SUBSYS_NFTABLES}}
	}
	const ownerFlag = 2 // NFT_TABLE_F_OWNER
	_, err = conn.SendMessages([]mnl.Message{
		batch(unix.NFNL_MSG_BATCH_BEGIN),
		message(unix.NFT_MSG_NEWTABLE, attributes(text(unix.NFTA_TABLE_NAME, table), word(unix.NFTA_TABLE_FLAGS, ownerFlag))),
		message(unix.NFT_MSG_NEWCHAIN, attributes(
			text(unix.NFTA_CHAIN_TABLE, table), text(unix.NFTA_CHAIN_NAME, chain), mnl.Attribute{Type: unix.NFTA_CHAIN_HOOK | unix.NLA_F_NESTED, Data: hook},
			word(unix.NFTA_CHAIN_POLICY, 0), text(unix.NFTA_CHAIN_TYPE, "filter"),
		)),
		batch(unix.NFNL_MSG_BATCH_END),
	})
	must(t, err)
}

// The old iptables is not changed, but said to be in the way.
func TestExposeBesideOldTables(t *testing.T) {
	h := host(t)
	run := func(words ...string) {
		cmd := exec.Command(words[0], words[1:]...)
		err := h.space.run(func() error {
			out, err := cmd.CombinedOutput()
			if err != nil && !errors.Is(err, exec.ErrNotFound) {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return err
		})
		if err != nil {
			t.Skip(err) // not there, or a kernel without
		}
	}
	if w := expose(t, h, nil); len(w) != 0 {
		t.Error("nobody uses it: ", w)
	}
	run("iptables-legacy", "-A", "FORWARD", "-i", "eth7", "-j", "DROP")
	if w := expose(t, h, nil); len(w) != 0 {
		t.Error("it passes by policy: ", w)
	}
	run("iptables-legacy", "-P", "FORWARD", "DROP")
	if w := expose(t, h, nil); len(w) != 1 || !strings.Contains(w[0], "; iptables-legacy -I FORWARD -o weave -j ACCEPT") {
		t.Error(w)
	}
	run("ip6tables-legacy", "-P", "FORWARD", "DROP")
	if w := expose(t, h, nil); len(w) != 2 || !strings.Contains(w[1], "FORWARD of ip6tables-legacy drops") {
		t.Error(w)
	}
}
