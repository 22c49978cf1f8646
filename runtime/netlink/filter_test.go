package netlink

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// tables names the nftables tables of the family ip with their chains and rule counts.
func tables(t *testing.T, s *space) []string {
	t.Helper()
	f, err := s.firewall()
	must(t, err)
	defer f.close()
	list, err := f.ListTablesOfFamily(nftables.TableFamilyIPv4)
	must(t, err)
	var names []string
	for _, table := range list {
		names = append(names, table.Name)
	}
	chains, err := f.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	must(t, err)
	for _, c := range chains {
		names = append(names, c.Table.Name+"/"+c.Name)
	}
	slices.Sort(names)
	return names
}

func filtered(t *testing.T, s *space, want string) {
	t.Helper()
	if got, err := s.filter(); err != nil || got.String() != want {
		t.Errorf("filter is %v, want %s: %v", got, want, err)
	}
}

// The filter follows the addresses, and goes with the last one; tables of others stay as they are.
func TestFilterFollowsAddresses(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	in := inside(t, target.Path)
	addForeign(t, in, "other", "input")
	filtered(t, in, "off")
	detach := func(list ...string) {
		must(t, h.Detach(t.Context(), target, attachment(target, list...).Addresses))
	}
	attach(t, h, attachment(target, "10.2.1.1/24", "fd00:1::1/64"))
	filtered(t, in, "10.2.1.0/24")
	attach(t, h, attachment(target, "10.2.1.2/24"))
	filtered(t, in, "10.2.1.0/24")
	attach(t, h, attachment(target, "10.2.9.9/16", "192.168.7.5/32"))
	filtered(t, in, "10.2.0.0/16,10.2.1.0/24,192.168.7.5/32")
	if seen := inspect(t, h, target); len(runtime.Plan(runtime.Attachment{
		Target: target, Addresses: seen.Addresses, MulticastRoute: true,
	}, "weave", seen)) != 0 {
		t.Error("something is left to do")
	}
	detach("10.2.1.1/24")
	filtered(t, in, "10.2.0.0/16,10.2.1.0/24,192.168.7.5/32")
	detach("10.2.1.2/24", "192.168.7.5/32")
	filtered(t, in, "10.2.0.0/16")
	detach("10.2.9.9/16")
	filtered(t, in, "none")
	detach("fd00:1::1/64")
	filtered(t, in, "off")
	if got := tables(t, in); !slices.Equal(got, []string{"other", "other/input"}) {
		t.Error(got)
	}
	if got := tables(t, h.space); len(got) != 0 {
		t.Error("in the host's namespace: ", got)
	}
}

// addForeign makes a table with a chain that counts what comes in.
func addForeign(t *testing.T, s *space, table, chain string) {
	t.Helper()
	f, err := s.firewall()
	must(t, err)
	defer f.close()
	theirs := &nftables.Table{Name: table, Family: nftables.TableFamilyIPv4}
	c := &nftables.Chain{
		Table: theirs, Name: chain, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	}
	f.AddTable(theirs)
	f.AddChain(c)
	f.AddRule(&nftables.Rule{Table: theirs, Chain: c, Exprs: []expr.Any{&expr.Counter{}}})
	must(t, f.Flush())
}

// A chain of somebody else in a table of our name stays.
func TestFilterBesideForeignChain(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	in := inside(t, target.Path)
	addForeign(t, in, "weave", "theirs")
	attach(t, h, attachment(target, "10.2.1.1/24"))
	filtered(t, in, "10.2.1.0/24")
	must(t, h.Detach(t.Context(), target, nil))
	if got := tables(t, in); !slices.Equal(got, []string{"weave", "weave/theirs"}) {
		t.Error(got)
	}
}

// Reset takes the filter from the namespaces of processes, and leaves others' tables there.
func TestFilterReset(t *testing.T) {
	h := host(t)
	c := exec.Command("sleep", "600")
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	must(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	target := resolved(t, h, strconv.Itoa(c.Process.Pid))
	in := inside(t, target.Path)
	addForeign(t, in, "other", "input")
	attach(t, h, attachment(target, "10.2.1.1/24"))
	filtered(t, in, "10.2.1.0/24")
	must(t, h.Reset())
	if got := tables(t, in); !slices.Equal(got, []string{"other", "other/input"}) {
		t.Error(got)
	}
}

// Rules that somebody changed are made right again.
func TestFilterRepaired(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	in := inside(t, target.Path)
	a := attachment(target, "10.2.1.1/24")
	attach(t, h, a)
	for _, harm := range []func(f *firewall){
		func(f *firewall) { f.FlushChain(f.chain) },
		func(f *firewall) { f.DelTable(f.chain.Table) },
		func(f *firewall) {
			accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
			f.InsertRule(&nftables.Rule{Table: f.chain.Table, Chain: f.chain, Exprs: accept})
		},
	} {
		f, err := in.firewall()
		must(t, err)
		harm(f)
		must(t, f.Flush())
		f.close()
		if seen := inspect(t, h, target); seen.Filter.String() == "10.2.1.0/24" {
			t.Error("the change was not noticed")
		}
		attach(t, h, a)
		filtered(t, in, "10.2.1.0/24")
	}
	must(t, h.delete(runtime.HostVeth(target.ID)))
	filtered(t, in, "10.2.1.0/24") // has outlived its interface
	must(t, h.Detach(t.Context(), target, a.Addresses))
	filtered(t, in, "off")
}

// A failure in the middle brings the filter back as it was.
func TestFilterUndone(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	in := inside(t, target.Path)
	attach(t, h, attachment(target, "10.2.1.1/24"))
	seen := inspect(t, h, target)
	for _, addresses := range [][]string{nil, {"10.3.1.1/24"}} {
		steps := runtime.Plan(attachment(target, addresses...), "weave", seen)
		steps = append(steps, runtime.Step{Op: runtime.SetUp, Link: "no-such-link"})
		if _, err := h.perform(t.Context(), steps, in, nil); err == nil {
			t.Fatal("performed the impossible")
		}
		filtered(t, in, "10.2.1.0/24")
	}
}

// A filter that cannot be set is one warning; the rest is done.
func TestFilterImpossible(t *testing.T) {
	h := host(t)
	target := resolved(t, h, newNamespace(t))
	in := inside(t, target.Path)
	steps := runtime.Plan(attachment(target, "10.2.1.1/24"), "weave", runtime.Seen{})
	for i, s := range steps {
		if s.Op == runtime.FilterMulticast {
			steps[i].Value = "what no kernel knows"
		}
	}
	warnings, err := h.perform(t.Context(), steps, in, nil)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "multicast of other subnets can reach net:[") {
		t.Fatal(warnings, err)
	}
	if seen := inspect(t, h, target); !seen.Present || !seen.Up || seen.Filter.On {
		t.Fatalf("%+v", seen)
	}
}

// Multicast reaches who shares a subnet with the sender, in any group; others only see IGMP.
//
//	c0 10.2.1.1 ==\                /== c2 10.2.1.3, 10.2.2.3
//	c1 10.2.2.2 ==== bridge weave ==== c3 10.2.1.4
func TestMulticastStaysInSubnet(t *testing.T) {
	h := host(t)
	var in []*space
	for _, addresses := range [][]string{{"10.2.1.1/24"}, {"10.2.2.2/24"}, {"10.2.1.3/24", "10.2.2.3/24"}, {"10.2.1.4/24"}} {
		target := resolved(t, h, newNamespace(t))
		attach(t, h, attachment(target, addresses...))
		in = append(in, inside(t, target.Path))
	}
	inSubnet1, inSubnet2 := listenUDP(t, in[0], "10.2.1.1"), listenUDP(t, in[1], "10.2.2.2")
	for _, group := range []string{"224.0.0.251", "239.1.2.3"} {
		both, one := join(t, in[2], group), join(t, in[3], group)
		to := netip.AddrPortFrom(netip.MustParseAddr(group), multicastPort)
		for _, from := range []*net.UDPConn{inSubnet2, inSubnet1} {
			text := from.LocalAddr().String() + " to " + group
			_, err := from.WriteToUDPAddrPort([]byte(text), to)
			must(t, err)
			receives(t, both, text)
		}
		receives(t, one, "10.2.1.1:7000 to "+group) // as the first thing
	}
}

const multicastPort = 7003

func receives(t *testing.T, conn *net.UDPConn, want string) {
	t.Helper()
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != want {
		t.Errorf("received %q, want %q: %v", buf[:n], want, err)
	}
}

func join(t *testing.T, s *space, group string) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	must(t, s.run(func() error {
		ifi, err := net.InterfaceByName(runtime.Inner)
		if err != nil {
			return err
		}
		conn, err = net.ListenMulticastUDP("udp4", ifi, &net.UDPAddr{IP: net.ParseIP(group), Port: multicastPort})
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// An IGMP querier of another subnet, and one without an address, are answered.
func TestQuerierOfAnotherSubnet(t *testing.T) {
	h := host(t)
	var in []*space
	for _, address := range []string{"10.2.1.1/24", "10.2.2.2/24"} {
		target := resolved(t, h, newNamespace(t))
		attach(t, h, attachment(target, address))
		in = append(in, inside(t, target.Path))
	}
	group := netip.MustParseAddr("239.7.7.7")
	join(t, in[0], group.String())
	querier, err := in[1].LinkByName(runtime.Inner)
	must(t, err)
	for _, from := range []string{"10.2.2.2", "0.0.0.0"} {
		fd := listenPackets(t, h.space, runtime.HostVeth(in[0].id))
		must(t, in[1].send(querier.Attrs().Index, groupFrame(querier, from, group, unix.IPPROTO_IGMP, igmpQuery(group))))
		answer := func(p []byte) bool { // IPv4, 24 bytes of header, an IGMPv2 report
			return len(p) >= 46 && binary.BigEndian.Uint16(p[12:]) == 0x0800 && p[14] == 0x46 && p[23] == unix.IPPROTO_IGMP &&
				p[38] == 0x16 && netip.AddrFrom4([4]byte(p[42:46])) == group
		}
		buf := make([]byte, 2000)
		for n := 0; !answer(buf[:n]); {
			if n, err = readPacket(fd, buf); err != nil {
				t.Fatalf("no answer to a querier with address %s: %v", from, err)
			}
		}
	}
}

// Who has no address yet may speak to link-local groups; no kernel takes anything else from 0.0.0.0.
func TestNoAddressYet(t *testing.T) {
	h := host(t)
	var in []*space
	for _, address := range []string{"10.2.1.1/24", "10.2.2.2/24"} {
		target := resolved(t, h, newNamespace(t))
		attach(t, h, attachment(target, address))
		in = append(in, inside(t, target.Path))
	}
	group := netip.MustParseAddr("224.0.0.251")
	member := join(t, in[0], group.String())
	link, err := in[1].LinkByName(runtime.Inner)
	must(t, err)
	udp := append([]byte{0x1b, 0x5b, 0x1b, 0x5b, 0, 13, 0, 0}, "hello"...) // 7003 to 7003, without a checksum
	for _, from := range []string{"10.2.2.2", "0.0.0.0"} {
		must(t, in[1].send(link.Attrs().Index, groupFrame(link, from, group, unix.IPPROTO_UDP, udp)))
	}
	buf := make([]byte, 100)
	if n, from, err := member.ReadFromUDPAddrPort(buf); err != nil || string(buf[:n]) != "hello" || !from.Addr().Unmap().IsUnspecified() {
		t.Error(string(buf[:n]), from, err)
	}
}

// igmpQuery is an IGMPv2 query for a group (RFC 2236, section 2), to be answered within 100 ms.
func igmpQuery(group netip.Addr) []byte {
	query := append([]byte{0x11, 1, 0, 0}, group.AsSlice()...)
	binary.BigEndian.PutUint16(query[2:], checksum(query))
	return query
}

// groupFrame is a frame to a group, with a router alert as IGMP wants it.
func groupFrame(link vnl.Link, from string, group netip.Addr, protocol byte, payload []byte) []byte {
	source, to := netip.MustParseAddr(from).As4(), group.As4()
	f := append([]byte{1, 0, 0x5e, to[1] & 0x7f, to[2], to[3]}, link.Attrs().HardwareAddr...)
	f = append(f, 0x08, 0x00)
	ip := []byte{0x46, 0xc0, 0, byte(24 + len(payload)), 0, 0, 0, 0, 1, protocol, 0, 0}
	ip = append(append(ip, source[:]...), to[:]...)
	ip = append(ip, 0x94, 4, 0, 0) // router alert
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return append(append(f, ip...), payload...)
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
