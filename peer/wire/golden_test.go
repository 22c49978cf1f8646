package wire

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantBytes(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if w := unhex(t, want); string(got) != string(w) {
		t.Errorf("%s:\n got %x\nwant %x", what, got, w)
	}
}

// text is a sink that notes each packet as hex.
type text []string

func (s *text) Packet(_ uint32, parts [][]byte) {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	*s = append(*s, hex.EncodeToString(b))
}

const (
	goldenEther = "0202020202020a0a0a0a0a0a"
	goldenUDP   = "01 00 0000 0000 2200 0600" + goldenEther + "0800" +
		"45000020 00070000 40110000 0a000001 0a000002" + "03e807d0000c1437 6869 2121"
	goldenRaw = "02 00 0000 0000 0000 0000" + goldenEther + "88b5 616263"
	// TCP, 5 bytes of payload in segments of 2, FIN and PSH.
	goldenTCP = "01 01 9999 0200 2200 1000" + goldenEther + "0800" +
		"4500002d 00070000 400666c2 0a000001 0a000002" +
		"03e807d0 00001000 00000000 50190100 14200000 6162636465"
	goldenHead = goldenEther + "0800" +
		"4500002d 00070000 400666c2 0a000001 0a000002" +
		"03e807d0 00001000 00000000 50190100 14200000"
)

func TestGoldenBundle(t *testing.T) {
	b, ok := AppendFrame(nil, unhex(t, goldenUDP), 1000)
	if !ok {
		t.Fatal("first does not fit")
	}
	if b, ok = AppendFrame(b, unhex(t, goldenRaw), 1000); !ok {
		t.Fatal("second does not fit")
	}
	wantBytes(t, "bundle", b, "01 01 002e 0022 0006"+strings.ReplaceAll(goldenUDP[25:], " ", "")+
		"01 02 0011 0000 0000"+goldenRaw[25:])
	if same, ok := AppendFrame(b, unhex(t, goldenRaw), len(b)+24); ok || len(same) != len(b) {
		t.Error("a frame beyond the limit was appended")
	}
	var got text
	j := NewJoiner(&got, false)
	if kind, fault := j.Add(1, append(b, 0, 9, 9)); kind != KindFrame || fault != FaultNone {
		t.Errorf("add: %v %v", kind, fault)
	}
	if len(got) != 2 {
		t.Fatalf("%d packets", len(got))
	}
	wantBytes(t, "first", unhex(t, got[0]), goldenUDP)
	wantBytes(t, "second", unhex(t, got[1]), goldenRaw)
}

func cutHex(t *testing.T, packet string, limit int) (out [][]byte) {
	t.Helper()
	c := NewCutter(3, 0x00ffffff)
	if fault := c.Start(append(make([]byte, Headroom), unhex(t, packet)...), limit); fault != FaultNone {
		t.Fatal(fault)
	}
	for b, ok := c.Next(); ok; b, ok = c.Next() {
		out = append(out, append([]byte(nil), b...))
	}
	return out
}

func TestGoldenSegments(t *testing.T) {
	b := cutHex(t, goldenTCP, 1000)
	if len(b) != 3 {
		t.Fatalf("%d plaintexts", len(b))
	}
	const fixed = "02 01 0036 0002 0022 0010 0100"
	wantBytes(t, "segment 0", b[0], fixed+"0000 0003"+goldenHead+"6162")
	wantBytes(t, "segment 1", b[1], fixed+"0001 0003"+goldenHead+"6364")
	wantBytes(t, "segment 2", b[2], fixed+"0002 0003"+goldenHead+"65")

	var got text
	j := NewJoiner(&got, false)
	for _, p := range b[1:] {
		if kind, fault := j.Add(1, p); kind != KindSegment || fault != FaultNone {
			t.Errorf("add: %v %v", kind, fault)
		}
	}
	j.Flush()
	if len(got) != 1 {
		t.Fatalf("%d packets", len(got))
	}
	wantBytes(t, "joined", unhex(t, got[0]), "01 01 3600 0200 2200 1000"+goldenEther+"0800"+
		"4500002b 00080000 400666c3 0a000001 0a000002"+"03e807d0 00001002 00000000 50190100 141e0000 636465")
}

func TestGoldenFragments(t *testing.T) {
	b := cutHex(t, goldenRaw, 24) // one byte less than its FRAME, room for 8 and a rest that is not used
	if len(b) != 4 {
		t.Fatalf("%d plaintexts", len(b))
	}
	raw := strings.ReplaceAll(goldenRaw, " ", "")
	wantBytes(t, "fragment 0", b[0], "03 00001b 03000000 00000000"+raw[:16])
	wantBytes(t, "fragment 3", b[3], "03 00001b 03000000 00000018"+raw[48:])
	var got text
	j := NewJoiner(&got, false)
	j.Add(1, b[3])
	j.Add(1, b[2])
	j.Add(1, b[1])
	j.Add(2, b[0])
	if kind, fault := j.Add(1, b[1]); kind != KindFragment || fault != FaultDuplicate {
		t.Errorf("duplicate: %v %v", kind, fault)
	}
	if len(got) != 0 {
		t.Fatal("joined pieces of different sources")
	}
	j.Add(1, b[0])
	if len(got) != 1 {
		t.Fatal("not joined")
	}
	wantBytes(t, "whole", unhex(t, got[0]), goldenRaw)
}

func TestGoldenHeartbeat(t *testing.T) {
	h := DataHeartbeat{Reply: true, Seq: 0x01020304, Timestamp: -2}
	b := AppendHeartbeat(nil, h, 16)
	wantBytes(t, "heartbeat", b, "04 01 01020304 fffffffffffffffe 0000")
	j := NewJoiner(&text{}, false)
	if kind, fault := j.Add(1, b); kind != KindHeartbeat || fault != FaultNone {
		t.Errorf("add: %v %v", kind, fault)
	}
	if got, ok := ParseHeartbeat(b); !ok || got != h {
		t.Errorf("parsed %+v", got)
	}
	if _, ok := ParseHeartbeat(b[:13]); ok {
		t.Error("short heartbeat parsed")
	}
}

func TestKinds(t *testing.T) {
	j := NewJoiner(&text{}, false)
	for _, c := range []struct {
		plaintext string
		kind      Kind
		fault     Fault
	}{
		{"", KindEnd, FaultNone},
		{"00ff", KindEnd, FaultNone},
		{"05", KindRelay, FaultNone},
		{"06", KindFlood, FaultNone},
		{"07", KindFast, FaultNone},
		{"08", 8, FaultKind},
		{"ff", 255, FaultKind},
		{"01", KindFrame, FaultShort},
		{"01 00 000d 0000 0000 00000000000000000000000000", KindFrame, FaultShort},
		{"01 00 000f 0000 0000 0000000000000000000000000000", KindFrame, FaultShort},
		{"01 01 000e 000c 0000 0000000000000000000000000000", KindFrame, FaultOffload},
		{"01 01 000e 000e 0000 0000000000000000000000000000", KindFrame, FaultOffload},
		{"01 00 000e ffff ffff 0000000000000000000000000000", KindFrame, FaultNone},
		{"01 00 000e 0000 0000 0000000000000000000000000000 02", KindFrame, FaultKind},
		{"02", KindSegment, FaultShort},
		{"02 01 0036 0002 0022 0010 0000 0000 0003", KindSegment, FaultShort},
		{"02 01 0036 0002 0022 0010 0000 0003 0003" + goldenHead + "6162", KindSegment, FaultSegment},
		{"02 01 0036 0002 0022 0010 0000 0000 0003" + goldenHead + "61", KindSegment, FaultSegment},
		{"02 01 0036 0000 0022 0010 0000 0002 0003" + goldenHead, KindSegment, FaultSegment},
		{"02 01 0036 0002 0022 0010 0000 0002 0003" + goldenHead, KindSegment, FaultSegment},
		{"02 01 0036 ffff 0022 0010 0000 0002 0003" + goldenHead + "61", KindSegment, FaultSegment},
		{"02 01 0036 0002 0023 0010 0000 0000 0003" + goldenHead + "6162", KindSegment, FaultOffload},
		{"02 04 0036 0002 0022 0010 0000 0000 0003" + goldenHead + "6162", KindSegment, FaultOffload},
		{"02 05 0036 0002 0022 0006 0000 0000 0003" + goldenHead + "6162", KindSegment, FaultOffload},
		{"02 01 0035 0002 0022 0010 0000 0000 0003" + goldenHead + "61", KindSegment, FaultOffload},
		{ // more segments than an IP packet has room for
			"02 01 0036 0100 0022 0010 0000 0000 0101" + goldenHead + strings.Repeat("61", 256), KindSegment, FaultSegment,
		},
		{ // a last segment that ends behind the largest IP packet
			"02 01 0036 0100 0022 0010 0000 00ff 0100" + goldenHead + strings.Repeat("61", 256), KindSegment, FaultSegment,
		},
		{ // an IP length that ends inside the headers
			"02 01 0036 0002 0022 0010 0000 0000 0003" + strings.Replace(goldenHead, "4500002d", "45000027", 1) + "6162",
			KindSegment, FaultOffload,
		},
		{"03", KindFragment, FaultShort},
		{"03 000100 00000001 00000000", KindFragment, FaultFragment},
		{"03 000100 00000001 00000004 0000000000000000", KindFragment, FaultFragment},
		{"03 000100 00000001 00000008 00000000000000", KindFragment, FaultFragment},
		{"03 000100 00000001 fffffff8 0000000000000000", KindFragment, FaultFragment},
		{"03 0fffff 00000001 00000000 0000000000000000", KindFragment, FaultFragment},
	} {
		if kind, fault := j.Add(1, unhex(t, c.plaintext)); kind != c.kind || fault != c.fault {
			t.Errorf("%s: %d %v, want %d %v", c.plaintext, kind, fault, c.kind, c.fault)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	good := unhex(t, goldenTCP)
	for _, c := range []struct {
		what  string
		fault Fault
		limit int
		spoil func(b []byte) []byte
	}{
		{"nothing", FaultShort, 1000, func([]byte) []byte { return nil }},
		{"half an Ethernet header", FaultShort, 1000, func(b []byte) []byte { return b[:VnetLen+13] }},
		{"more than a frame", FaultLong, 1000, func([]byte) []byte { return make([]byte, MaxPacket+1) }},
		{"unknown type", FaultOffload, 1000, func(b []byte) []byte { b[1] = 3; return b }},
		{"wrong IP version", FaultOffload, 1000, func(b []byte) []byte { b[1] = 4; return b }},
		{"no partial checksum", FaultOffload, 1000, func(b []byte) []byte { b[0] = 0; return b }},
		{"no segment size", FaultOffload, 1000, func(b []byte) []byte { b[4] = 0; return b }},
		{"checksum elsewhere", FaultOffload, 1000, func(b []byte) []byte { b[8] = 14; return b }},
		{"no payload", FaultOffload, 1000, func(b []byte) []byte { return b[:len(b)-5] }},
		{"shorter than its IP length", FaultOffload, 1000, func(b []byte) []byte { return b[:len(b)-1] }},
		{"no room", FaultLimit, 19, func(b []byte) []byte { return b }},
		{"frame with its checksum outside", FaultOffload, 1000, func(b []byte) []byte {
			b[1] = 0
			binary.LittleEndian.PutUint16(b[8:], uint16(len(b)))
			return b
		}},
	} {
		packet := c.spoil(append([]byte(nil), good...))
		cut := NewCutter(0, 0)
		if fault := cut.Start(append(make([]byte, Headroom), packet...), c.limit); fault != c.fault {
			t.Errorf("%s: %v, want %v", c.what, fault, c.fault)
		}
		if _, ok := cut.Next(); ok && c.fault != FaultNone {
			t.Errorf("%s: cut all the same", c.what)
		}
	}
}

func TestMessages(t *testing.T) {
	message := func(typ, suite byte, n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i)
		}
		copy(b, []byte{typ, suite, 0, 0})
		return b
	}
	for _, c := range []struct {
		b       []byte
		ok      bool
		index   uint32
		indexed bool
	}{
		{message(TypeInitiation, SuiteWireGuard, 148), true, 0, false},
		{message(TypeInitiation, SuiteAESGCM, 148), true, 0, false},
		{message(TypeInitiation, SuiteClear, 148), true, 0, false},
		{message(TypeInitiation, 3, 148), false, 0, false},
		{message(TypeInitiation, 0, 147), false, 0, false},
		{message(TypeResponse, SuiteAESGCM, 92), true, 0x0b0a0908, true},
		{message(TypeCookie, 0, 64), true, 0x07060504, true},
		{message(TypeCookie, 1, 64), false, 0, false},
		{message(TypeData, 0, 32), true, 0x07060504, true},
		{message(TypeData, 0, 31), false, 0, false},
		{message(5, 0, 148), false, 0, false},
		{nil, false, 0, false},
	} {
		typ, suite, ok := MessageType(c.b)
		if ok != c.ok || ok && (typ != c.b[0] || suite != c.b[1]) {
			t.Errorf("%.4x, %d bytes: %d %d %v", c.b, len(c.b), typ, suite, ok)
		}
		if index, ok := ReceiverIndex(c.b); index != c.index || ok != c.indexed {
			t.Errorf("%.4x, %d bytes: index %#x %v", c.b, len(c.b), index, ok)
		}
	}
	if b := message(TypeData, 0, 32); b != nil {
		b[3] = 1
		if _, _, ok := MessageType(b); ok {
			t.Error("reserved byte set, and accepted")
		}
	}
}

// The default container MTU fits the default path: IPv4, TCP with timestamps, 1472 bytes of UDP payload.
func TestDefaultMTUFits(t *testing.T) {
	packet := traffic{proto: "tcp4", super: true, tcpExtra: 12, gsoSize: 1324, payload: 60000}.build()
	c := NewCutter(0, 0)
	if fault := c.Start(append(make([]byte, Headroom), packet...), 1472-DataOverhead); fault != FaultNone {
		t.Fatal(fault)
	}
	b, _ := c.Next()
	if len(b) != 16+66+1324 {
		t.Errorf("plaintext of %d bytes", len(b))
	}
}
