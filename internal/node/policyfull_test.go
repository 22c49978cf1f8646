package node

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"weave/runtime/netlink"
	"weave/stack/filter"
)

// tcpFrame is a TCP segment in a frame.
func tcpFrame(from, to *kernelEnd, src, dst string, sport, dport uint16, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	b[12], b[13] = 0x50, flags
	return ipFrame(from, to, src, dst, 6, b)
}

func udpFrame(from, to *kernelEnd, src, dst string, sport, dport uint16) []byte {
	return ipFrame(from, to, src, dst, 17, []byte{byte(sport >> 8), byte(sport), byte(dport >> 8), byte(dport), 0, 8, 0, 0})
}

func ipFrame(from, to *kernelEnd, src, dst string, proto byte, body []byte) []byte {
	h := []byte{0x45, 0, 0, byte(20 + len(body)), 0, 1, 0, 0, 64, proto, 0, 0}
	h = slices.Concat(h, netip.MustParseAddr(src).AsSlice(), netip.MustParseAddr(dst).AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	return slices.Concat(to.mac, from.mac, []byte{8, 0}, h, body)
}

// A flood of connections takes all the room for flows. What is allowed still gets its answers, what is denied gets nowhere, and it is counted.
func TestMoreFlowsThanRoom(t *testing.T) {
	h := openBridge(t, netlink.Config{PolicyFlows: 64})
	web, db := openEnd(t, h, "10.0.0.1/24"), openEnd(t, h, "10.0.0.2/24")
	set := func(text string) {
		t.Helper()
		doc, err := filter.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.SetPolicy(kernelPolicy(doc, filter.NewMembers(doc))); err != nil {
			t.Fatal(err)
		}
	}
	number := 0
	want := func(pass bool, what string, from, to *kernelEnd, frame []byte) {
		t.Helper()
		number++
		if crosses(t, from, to, frame, number) != pass {
			t.Errorf("%s: passes is %v", what, !pass)
		}
	}
	const a, b = "10.0.0.1", "10.0.0.2"
	set("allow 10.0.0.1 -> 10.0.0.2 tcp,udp 80\ndefault deny\n")
	const syn, ack = 2, 0x10
	want(true, "a connection while there is room", web, db, tcpFrame(web, db, a, b, 999, 80, syn))
	want(true, "its answer", db, web, tcpFrame(db, web, b, a, 80, 999, syn|ack))
	want(true, "what follows", web, db, tcpFrame(web, db, a, b, 999, 80, ack))
	for port := range 300 {
		want(true, "one of a flood", web, db, tcpFrame(web, db, a, b, uint16(10000+port), 80, syn))
	}
	want(true, "a connection without room", web, db, tcpFrame(web, db, a, b, 2000, 80, syn))
	want(true, "its answer", db, web, tcpFrame(db, web, b, a, 80, 2000, syn|ack))
	want(true, "what follows", web, db, tcpFrame(web, db, a, b, 2000, 80, ack))
	want(true, "an answer to that", db, web, tcpFrame(db, web, b, a, 80, 2000, ack))
	want(true, "an answer on the connection that was there before", db, web, tcpFrame(db, web, b, a, 80, 999, ack))
	want(true, "a reset", db, web, tcpFrame(db, web, b, a, 80, 2001, 4))
	want(false, "a connection the other way, from the port that was asked", db, web, tcpFrame(db, web, b, a, 80, 22, syn))
	want(false, "an answer from another port", db, web, tcpFrame(db, web, b, a, 81, 2000, ack))
	want(false, "an answer by UDP where nothing was asked so", db, web, udpFrame(db, web, b, a, 80, 2000))
	want(true, "UDP", web, db, udpFrame(web, db, a, b, 2000, 80))
	want(true, "its answer", db, web, udpFrame(db, web, b, a, 80, 2000))
	want(false, "another port", web, db, tcpFrame(web, db, a, b, 2000, 81, syn))
	counts, err := h.PolicyCounts()
	if err != nil || counts[filter.CountUntracked].Packets < 200 {
		t.Errorf("%d packets were counted as untracked: %v", counts[filter.CountUntracked].Packets, err)
	}
	set("deny 10.0.0.1 -> 10.0.0.2 tcp 80\nallow 10.0.0.1 -> 10.0.0.2 udp 80\ndefault deny\n")
	want(false, "an answer to what is not allowed any more", db, web, tcpFrame(db, web, b, a, 80, 2000, ack))
	want(false, "what follows of the connection of before", web, db, tcpFrame(web, db, a, b, 2000, 80, ack))
	want(true, "what still is", web, db, udpFrame(web, db, a, b, 2000, 80))
	want(true, "its answer", db, web, udpFrame(db, web, b, a, 80, 2000))
}
