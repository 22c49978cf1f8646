package node

import (
	"net/netip"
	"testing"
	"time"

	"weave/peer"
	"weave/peer/session"
)

// Reports are written in place: those of peers that are gone must not stay, nor may a
// copy that was read change, and a look that finds all as it was allocates nothing.
func TestPathReportsInPlace(t *testing.T) {
	l := &sessionLoop{book: newPeerBook()}
	l.secrets.Store(&[]peer.Secret{})
	if l.reports.read() != nil {
		t.Fatal("reports before the first")
	}
	names := []peer.Name{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}, {2, 0, 0, 0, 0, 3}}
	for i, n := range names {
		key := session.PublicKey{byte(i + 1)}
		r := &remote{name: n, key: key}
		p := &peerState{remote: r}
		way := peer.Way{Kind: peer.WayDirect, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 6783)}
		p.paths.Offer([]peer.Way{way})
		p.paths.Proven(time.Unix(1, 0), way)
		p.path.Store(newPath(way.Addr, 1500))
		l.book.peers[key], l.book.names[n] = p, r
	}
	l.show()
	before := l.reports.read()
	if len(before) != 3 || before[names[1]].kind != peer.WayDirect {
		t.Fatalf("%+v", before)
	}
	if n := testing.AllocsPerRun(100, l.show); n > 0 {
		t.Errorf("%v allocations where nothing changed", n)
	}
	l.book.peers[session.PublicKey{1}].gone = time.Unix(2, 0)
	delete(l.book.peers, session.PublicKey{2})
	delete(l.book.names, names[1])
	l.show()
	if got := l.reports.read(); len(got) != 1 || got[names[2]].kind != peer.WayDirect {
		t.Errorf("%+v", got)
	}
	if len(before) != 3 {
		t.Error("a copy that was read has changed")
	}
}
