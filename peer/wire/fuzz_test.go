package wire

import (
	"encoding/binary"
	"testing"
)

// FuzzJoinerAdd feeds one joiner several plaintexts from two sources; each is preceded by its length.
func FuzzJoinerAdd(f *testing.F) {
	c := NewCutter(0, 0)
	pack := func(in ...[]byte) (b []byte) {
		for _, p := range in {
			b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
			b = append(b, p...)
		}
		return b
	}
	frame, _ := AppendFrame(nil, traffic{proto: "udp4", needs: true, payload: 20}.build(), 1000)
	f.Add(pack(frame, AppendHeartbeat(nil, DataHeartbeat{Seq: 1}, 20)), true)
	f.Add(pack(segments(4, 1, c)...), false)
	f.Add(pack(plaintexts(c, traffic{proto: "udp6", super: true, gsoSize: 50, payload: 190, options: 2}.build(), 400)...), true)
	f.Add(pack(plaintexts(c, traffic{proto: "tcp6", super: true, tags: 1, gsoSize: 50, payload: 190}.build(), 80)...), false)
	f.Fuzz(func(t *testing.T, in []byte, plain bool) {
		j := NewJoiner(&checkingSink{t: t}, plain)
		for i := 0; len(in) >= 2; i++ {
			n := min(int(binary.BigEndian.Uint16(in)), len(in)-2)
			if fault := arrive(j, uint32(i%7/6), in[2:2+n], unsealed{forged: i%5 == 4}); fault >= FaultCount {
				t.Fatal(fault)
			}
			in = in[2+n:]
		}
		j.Flush()
		if j.used != 0 {
			t.Fatal("runs pending after flush")
		}
	})
}

// FuzzCutterStart cuts any packet: what the cutter accepts, the joiner accepts.
func FuzzCutterStart(f *testing.F) {
	f.Add(traffic{proto: "tcp4", super: true, gsoSize: 100, payload: 900}.build(), 500)
	f.Add(traffic{proto: "udp6", super: true, gsoSize: 100, payload: 900, options: 1, routing: true}.build(), 100)
	f.Add(traffic{proto: "tcp6", needs: true, payload: 90, tags: 2}.build(), 300)
	f.Add(traffic{proto: "raw", payload: 3}.build(), 30)
	f.Fuzz(func(t *testing.T, packet []byte, limit int) {
		buf := append(make([]byte, Headroom), packet...)
		c := NewCutter(1, 2)
		s := &checkingSink{t: t}
		j := NewJoiner(s, false)
		if fault := c.Start(buf, limit); fault != FaultNone {
			if _, ok := c.Next(); ok {
				t.Fatal("refused, and cut")
			}
			return
		}
		kind, fault := KindEnd, FaultNone
		for b, ok := c.Next(); ok && fault == FaultNone; b, ok = c.Next() {
			if len(b) > limit {
				t.Fatalf("%d bytes, limit %d", len(b), limit)
			}
			kind, fault = j.Add(0, append([]byte(nil), b...))
		}
		j.Flush()
		// A frame too long for the path travels unseen; the joiner is the first to look at its offload fields.
		if fault != FaultNone && (kind != KindFragment || fault != FaultOffload) || fault == FaultNone && s.packets == 0 {
			t.Fatalf("%v, %d packets", fault, s.packets)
		}
	})
}
