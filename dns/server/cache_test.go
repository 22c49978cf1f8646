package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

var noon = time.Unix(1_700_000_000, 0)

func asked(t testing.TB, name string, qtype uint16, edns uint16) *query {
	t.Helper()
	var q query
	if f, code := q.parse(packed(name, qtype, edns)); f != fateAnswer {
		t.Fatalf("query for %s: %d, %d", name, f, code)
	}
	return &q
}

// came is an answer to a query that came in at a time.
func came(t testing.TB, q *query, now time.Time, records ...string) *foreign {
	t.Helper()
	m, err := q.message()
	if err != nil {
		t.Fatal(err)
	}
	r := new(mdns.Msg).SetReply(m)
	for _, text := range records {
		if rr := record(text); rr.Header().Rrtype == mdns.TypeSOA {
			r.Ns = append(r.Ns, rr)
		} else {
			r.Answer = append(r.Answer, rr)
		}
	}
	r.SetEdns0(ownUDP, false)
	f, err := newForeign(r, m.Question, now)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func told(t testing.TB, c *cache, q *query, now time.Time) *mdns.Msg {
	t.Helper()
	f := c.get(q.key(), now)
	if f == nil {
		return nil
	}
	var m mdns.Msg
	if err := m.Unpack(f.reply(q, nil, now, maxMessage)); err != nil {
		t.Fatal(err)
	}
	return &m
}

// Times to live count down, and the shortest ends all.
func TestCacheCountsDown(t *testing.T) {
	for _, c := range []struct {
		records []string
		lives   int // seconds
	}{
		{[]string{"a.example. 300 IN CNAME b.example.", "b.example. 60 IN A 192.0.2.1", "b.example. 90 IN A 192.0.2.2"}, 60},
		{[]string{"example. 900 IN SOA a. b. 1 2 3 4 30"}, 30},
		{[]string{"example. 20 IN SOA a. b. 1 2 3 4 3600"}, 20},
		{[]string{"example. 9000 IN SOA a. b. 1 2 3 4 9000"}, 300},
		{[]string{"a.example. 99999 IN A 192.0.2.1"}, 3600},
		{[]string{"a.example. 0 IN A 192.0.2.1"}, 0},
		{nil, 0},
	} {
		var kept cache
		q := asked(t, "a.example.", mdns.TypeA, 1232)
		f := came(t, q, noon, c.records...)
		kept.put(q.key(), f)
		for _, age := range []int{0, 1, 17, c.lives - 1, c.lives, c.lives + 1000} {
			m := told(t, &kept, q, noon.Add(time.Duration(age)*time.Second+time.Millisecond))
			if there := age >= 0 && age < c.lives; (m != nil) != there {
				t.Errorf("%v after %d s: %v", c.records, age, m)
			}
			if m == nil {
				continue
			}
			got := append(m.Answer, m.Ns...)
			if len(got) != len(c.records) || m.IsEdns0() == nil {
				t.Errorf("%v after %d s: %v", c.records, age, m)
			}
			for i, rr := range got {
				if want := record(c.records[i]).Header().Ttl - uint32(age); rr.Header().Ttl != want {
					t.Errorf("after %d s: %v, wanted %d", age, rr, want)
				}
			}
		}
		if kept.bytes != 0 || kept.kept.len() != 0 {
			t.Errorf("%v: %d bytes are left of %d answers", c.records, kept.bytes, kept.kept.len())
		}
	}
}

// An answer is told in the spelling of who asks, and with its number; with an
// OPT record if the query had one; and cut to size.
func TestCachedAnswerFitsTheClient(t *testing.T) {
	q := asked(t, "a.example.", mdns.TypeA, 1232)
	var records []string
	for i := range 60 {
		records = append(records, fmt.Sprintf("a.example. 60 IN A 192.0.2.%d", i))
	}
	f := came(t, q, noon, records...)
	other := asked(t, "A.exAMPle.", mdns.TypeA, 0)
	other.head[0], other.head[1], other.head[2] = 0x77, 0x88, 0 // no recursion desired
	for _, limit := range []int{512, 1232, maxMessage} {
		for _, q := range []*query{q, other} {
			out := f.reply(q, nil, noon, limit)
			var m mdns.Msg
			if err := m.Unpack(out); err != nil || len(out) > limit {
				t.Fatalf("%d bytes of %d: %v", len(out), limit, err)
			}
			if m.Truncated != (limit == 512) || (len(m.Answer) == 60) == m.Truncated || (m.IsEdns0() != nil) != q.edns {
				t.Errorf("%d bytes: truncated %v, %d records", limit, m.Truncated, len(m.Answer))
			}
			want := new(mdns.Msg)
			if err := want.Unpack(q.replyHead(nil, 0)); err != nil {
				t.Fatal(err)
			}
			if m.Id != want.Id || m.Question[0] != want.Question[0] || m.RecursionDesired != want.RecursionDesired || m.Authoritative || !m.RecursionAvailable {
				t.Errorf("header %+v %v", m.MsgHdr, m.Question)
			}
		}
	}
}

// What is asked for differs by type, and by whether signatures are wanted; not
// by spelling.
func TestKeys(t *testing.T) {
	q := asked(t, "a.example.", mdns.TypeA, 0)
	if q.key() != asked(t, "A.EXAMPLE.", mdns.TypeA, 0).key() {
		t.Error("spelling matters")
	}
	if !strings.HasSuffix(asked(t, "a.", mdns.TypeHTTPS, 0).key().text, "\x00\x41\x00\x01") { // 'A'
		t.Error("a type is taken for a letter")
	}
	differ := []*query{q, asked(t, "a.example.", mdns.TypeAAAA, 0), asked(t, "a.example.", mdns.TypeA, 1232), asked(t, `a\.example.`, mdns.TypeA, 0), asked(t, `a\000example.`, mdns.TypeA, 0)}
	for _, bits := range []byte{bitAD, bitCD} {
		with := asked(t, "a.example.", mdns.TypeA, 0)
		with.head[3] |= bits
		differ = append(differ, with)
	}
	seen := map[question]bool{}
	for i, q := range differ {
		if k := q.key(); seen[k] {
			t.Errorf("%d is as another", i)
		} else {
			seen[k] = true
		}
	}
}

// The cache holds so many bytes, however large answers are, and keeps what is
// asked for.
func TestCacheIsBounded(t *testing.T) {
	var kept cache
	var large []string
	for i := range 40 {
		large = append(large, fmt.Sprintf("a.example. 60 IN TXT %q", strings.Repeat(string(rune('a'+i%26)), 250)))
	}
	favourite := asked(t, "favourite.example.", mdns.TypeA, 0)
	kept.put(favourite.key(), came(t, favourite, noon, "favourite.example. 60 IN A 192.0.2.1"))
	var first *query
	for i := range 3000 {
		q := asked(t, fmt.Sprintf("n%d.example.", i), mdns.TypeTXT, 0)
		if i == 0 {
			first = q
		}
		kept.put(q.key(), came(t, q, noon, large...))
		if kept.get(favourite.key(), noon) == nil {
			t.Fatalf("what was just asked for is gone after %d others", i)
		}
		if kept.bytes > maxCacheBytes {
			t.Fatalf("%d bytes", kept.bytes)
		}
	}
	if kept.get(first.key(), noon) != nil {
		t.Error("what nobody asked for is still there")
	}
	sum := 0
	for n := kept.kept.len(); n > 0; n-- {
		f, _ := kept.kept.evict()
		sum += f.weight()
		if len(f.wire) > f.weight() {
			t.Fatalf("an answer of %d bytes counts as %d", len(f.wire), f.weight())
		}
	}
	if sum != kept.bytes || sum < maxCacheBytes*9/10 {
		t.Errorf("%d bytes are kept, %d were counted", sum, kept.bytes)
	}
}
