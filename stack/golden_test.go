package stack

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden has one frame of each multicast message. All but the IGMPv1 query and PIM were sent by Linux 6 (hosts forced to each version,
// a bridge as querier) into a TAP.
var golden = []struct {
	name, frame string
	kind        messageKind
	resp        Stamp
	group       string   // of a report
	joined      []string // of records
}{
	{
		name: "igmpv1 query", kind: msgGeneralQuery, resp: 10,
		frame: "01005e000001020000000001080046c00020000040000102f90c0a090101e0000001940400001100eeff00000000",
	},
	{
		name: "igmpv2 query", kind: msgGeneralQuery, resp: 10,
		frame: "01005e000001020000000001080046c00020000040000102f90c0a090101e0000001940400001164ee9b00000000",
	},
	{
		name: "igmpv3 query", kind: msgGeneralQuery, resp: 10,
		frame: "01005e000001020000000001080046c00024000040000102f9080a090101e0000001940400001164ec1e00000000027d0000",
	},
	{
		name: "igmpv1 report", kind: msgReport, group: "239.1.2.3",
		frame: "01005e010203020000000001080046c00020000040000102e9080a090002ef010203940400001200fcfaef010203",
	},
	{
		name: "igmpv2 report", kind: msgReport, group: "239.1.2.3",
		frame: "01005e010203020000000001080046c00020000040000102e9080a090002ef010203940400001600f8faef010203",
	},
	{
		name: "igmpv2 leave", kind: msgLeave,
		frame: "01005e000002020000000001080046c00020000040000102fa0a0a090002e0000002940400001700f7faef010203",
	},
	{
		name: "igmpv3 join", kind: msgRecords, joined: []string{"239.1.2.3"},
		frame: "01005e000016020000000001080046c00028000040000102f9ee0a090002e0000016940400002200e8f90000000104000000ef010203",
	},
	{
		name: "igmpv3 leave", kind: msgRecords,
		frame: "01005e000016020000000001080046c00028000040000102f9ee0a090002e0000016940400002200e9f90000000103000000ef010203",
	},
	{
		name: "mldv1 query", kind: msgGeneralQuery, resp: 10,
		frame: "33330000000102000000000186dd6000000000200001fe80000000000000000000fffe000001ff020000000000000000000000000001" +
			"3a0005020000000082005a172710000000000000000000000000000000000000",
	},
	{
		name: "mldv2 query", kind: msgGeneralQuery, resp: 10,
		frame: "33330000000102000000000186dd6000000000240001fe80000000000000000000fffe000001ff020000000000000000000000000001" +
			"3a00050200000000820057962710000000000000000000000000000000000000027d0000",
	},
	{
		name: "mldv1 report", kind: msgReport, group: "ff3e::1234",
		frame: "33330000123402000000000186dd6000000000200001fe80000000000000000000fffe000001ff3e0000000000000000000000001234" +
			"3a0005020000010083005c4500000000ff3e0000000000000000000000001234",
	},
	{
		name: "mldv1 report before the address is ours", kind: msgReport, group: "ff02::1:ff00:1",
		frame: "3333ff00000102000000000186dd600000000020000100000000000000000000000000000000ff0200000000000000000001ff000001" +
			"3a00050200000100830080a100000000ff0200000000000000000001ff000001",
	},
	{
		name: "mldv1 done", kind: msgLeave,
		frame: "33330000000202000000000186dd6000000000200001fe80000000000000000000fffe000001ff020000000000000000000000000002" +
			"3a0005020000010084006db300000000ff3e0000000000000000000000001234",
	},
	{
		name: "mldv2 join", kind: msgRecords, joined: []string{"ff02::1:ff00:1", "ff02::6a"},
		frame: "33330000001602000000000186dd6000000000380001fe80000000000000000000fffe000001ff020000000000000000000000000016" +
			"3a000502000001008f006e850000000204000000ff0200000000000000000001ff00000104000000ff02000000000000000000000000006a",
	},
	{
		name: "mldv2 leave", kind: msgRecords,
		frame: "33330000001602000000000186dd6000000000240001fe80000000000000000000fffe000001ff020000000000000000000000000016" +
			"3a000502000001008f005f9a0000000103000000ff3e0000000000000000000000001234",
	},
}

// readMessage parses a frame as the switch does.
func readMessage(f []byte) (message, bool) {
	p, _, ok := parsePacket(f)
	if !ok {
		return message{}, false
	}
	if p.dst.is4() {
		return parseIGMP(&p)
	}
	return parseMLD(&p)
}

func TestGoldenMessages(t *testing.T) {
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			frame := unhex(t, g.frame)
			m, ok := readMessage(frame)
			if !ok {
				t.Fatal("not trusted")
			}
			if m.kind != g.kind || m.resp != g.resp {
				t.Errorf("kind %d, response time %d; want %d, %d", m.kind, m.resp, g.kind, g.resp)
			}
			if g.group != "" && m.group.String() != g.group {
				t.Errorf("group %v, want %v", m.group, g.group)
			}
			var joined []string
			for _, j := range m.joined() {
				joined = append(joined, j.String())
			}
			if diff := cmp.Diff(g.joined, joined); diff != "" {
				t.Errorf("joined (-want +got):\n%s", diff)
			}
			if fixed := fix(bytes.Clone(frame)); !bytes.Equal(fixed, frame) {
				t.Errorf("our checksum differs:\n%x\n%x", fixed, frame)
			}
		})
	}
}

// Every message, cut short anywhere or with any one byte of it damaged, is not trusted and does no harm.
func TestGoldenDamaged(t *testing.T) {
	for _, g := range golden {
		frame := unhex(t, g.frame)
		p, _, _ := parsePacket(frame)
		start := len(frame) - len(p.body)
		for n := range len(frame) {
			if _, ok := readMessage(frame[:n]); ok {
				t.Errorf("%s: trusted when cut to %d bytes", g.name, n)
			}
		}
		for i := start; i < len(frame); i++ {
			bad := bytes.Clone(frame)
			bad[i] ^= 0x10
			if _, ok := readMessage(bad); ok {
				t.Errorf("%s: trusted with byte %d damaged", g.name, i)
			}
		}
	}
}

func TestGoldenPIM(t *testing.T) {
	// PIMv2 hello (RFC 7761 section 4.9.2) with a holdtime of 105 s, from 10.9.1.1.
	frame := unhex(t, "01005e00000d020000000001080045c0001e0000400001678da20a090101e000000d2000df93000100020069")
	p, _, ok := parsePacket(frame)
	if !ok || p.proto != protoPIM || !p.whole || !p.dst.isLinkScope() {
		t.Fatalf("packet %+v, %v", p, ok)
	}
}

// Messages that are whole but that hosts need not answer, or that make no sense.
func TestUntrustedQueries(t *testing.T) {
	specific := control(g4(1), number(1), append([]byte{igmpQuery, 100, 0, 0}, 239, 1, 0, 1))
	anonymous := query(false, number(1), 10)
	copy(anonymous[26:], make([]byte, 4))
	v3sources := control(allHosts, number(1), []byte{igmpQuery, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 1, 10, 0, 0, 1})
	v3short := control(allHosts, number(1), []byte{igmpQuery, 100, 0, 0, 0, 0, 0, 0, 2, 125})
	noAlert := query(true, number(1), 10)
	noAlert[HeaderLen+42] = 0x1e // an option to skip
	far := query(true, number(1), 10)
	far[HeaderLen+7] = 64
	elsewhere := query(true, number(1), 10)
	elsewhere[HeaderLen+8] = 0x20
	for name, f := range map[string][]byte{
		"group-specific": specific, "from 0.0.0.0": anonymous, "v3 with sources": v3sources, "ten bytes": v3short,
		"mld without router alert": noAlert, "mld with hop limit 64": far, "mld from a global address": fix(elsewhere),
	} {
		if m, _ := readMessage(f); m.kind != msgOther {
			t.Errorf("%s: taken as kind %d", name, m.kind)
		}
	}
}

func TestExpandFloat(t *testing.T) {
	for _, c := range []struct {
		code     uint32
		bits     int
		want     uint32
		document string
	}{
		{100, 4, 100, "below 128 it is the value"},
		{0x80, 4, 128, "RFC 3376: (0|0x10) << 3"},
		{0xff, 4, 31744, "RFC 3376: (15|0x10) << 10"},
		{0x7fff, 12, 0x7fff, "below 32768 it is the value"},
		{0x8000, 12, 32768, "RFC 3810: (0|0x1000) << 3"},
		{0xffff, 12, 8387584, "RFC 3810: (0xfff|0x1000) << 10"},
	} {
		if got := expandFloat(c.code, c.bits); got != c.want {
			t.Errorf("expandFloat(%#x, %d) = %d, want %d: %s", c.code, c.bits, got, c.want, c.document)
		}
	}
}
