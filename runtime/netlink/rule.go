package netlink

import (
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

const (
	offsetSource6, offsetDest6 = 8, 24 // in the IPv6 header (RFC 8200, section 3), in bytes
)

// ruleExprs is a rule in nf_tables' own terms. In tables of both families it has to say which one it means.
func ruleExprs(r runtime.Rule, both bool) []expr.Any {
	var out []expr.Any
	if v4, v6 := r.Families(); both && v4 != v6 {
		family := byte(unix.NFPROTO_IPV4)
		if v6 {
			family = unix.NFPROTO_IPV6
		}
		out = append(out, &expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1}, equal([]byte{family}))
	}
	for _, m := range []struct {
		key  expr.MetaKey
		name string
		op   expr.CmpOp
	}{{expr.MetaKeyIIFNAME, r.In, expr.CmpOpEq}, {expr.MetaKeyOIFNAME, r.Out, expr.CmpOpEq}, {expr.MetaKeyOIFNAME, r.NotOut, expr.CmpOpNeq}} {
		if m.name != "" {
			cmp := &expr.Cmp{Op: m.op, Register: unix.NFT_REG_1, Data: append([]byte(m.name), 0)}
			out = append(out, &expr.Meta{Key: m.key, Register: unix.NFT_REG_1}, cmp)
		}
	}
	if r.Known {
		out = append(out, ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)...)
	}
	for _, m := range []struct {
		p      netip.Prefix
		source bool
		op     expr.CmpOp
	}{{r.Source, true, expr.CmpOpEq}, {r.NotSource, true, expr.CmpOpNeq}, {r.Destination, false, expr.CmpOpEq}, {r.NotDest, false, expr.CmpOpNeq}} {
		if m.p.IsValid() {
			out = append(out, matchPrefix(m.p, m.source, m.op)...)
		}
	}
	out = append(out, matchPort(r.Port, both)...)
	if r.Led {
		out = append(out, ctBits(expr.CtKeySTATUS, ctStatusDNAT)...)
	}
	out = append(out, &expr.Counter{})
	if r.Verdict == runtime.Lead {
		return append(out, lead(r)...)
	}
	return append(out, verdict(r.Verdict))
}

var anyPort = [2]uint16{0, 0xffff}

// ctStatusDNAT is IPS_DST_NAT (include/uapi/linux/netfilter/nf_conntrack_common.h).
const ctStatusDNAT = 1 << 5

// matchPort has the destination port at byte 2 of both UDP's header (RFC 768) and TCP's (RFC 9293). In tables of one family,
// which are iptables', it says so in iptables' terms: versions before 1.8.8 would show the rule without its port.
func matchPort(m runtime.PortMatch, both bool) []expr.Any {
	var out []expr.Any
	native := func(n uint32) *expr.Cmp {
		return &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: binaryutil.NativeEndian.PutUint32(n)}
	}
	if m.Local {
		out = append(out, &expr.Fib{Register: unix.NFT_REG_1, ResultADDRTYPE: true, FlagDADDR: true}, native(unix.RTN_LOCAL))
	}
	if m.Proto != "" {
		proto, old := byte(unix.IPPROTO_TCP), xt.InfoAny(&xt.Tcp{SrcPorts: anyPort, DstPorts: [2]uint16{m.Port, m.Port}})
		if m.Proto == "udp" {
			proto, old = unix.IPPROTO_UDP, &xt.Udp{SrcPorts: anyPort, DstPorts: [2]uint16{m.Port, m.Port}}
		}
		out = append(out, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1}, equal([]byte{proto}))
		if !both {
			return append(out, &expr.Match{Name: m.Proto, Info: old})
		}
		out = append(
			out,
			&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			equal(binaryutil.BigEndian.PutUint16(m.Port)),
		)
	}
	if m.OneIn > 1 {
		out = append(out, &expr.Numgen{Register: unix.NFT_REG_1, Modulus: uint32(m.OneIn), Type: unix.NFT_NG_RANDOM}, native(0))
	}
	return out
}

func lead(r runtime.Rule) []expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if r.To.Addr().Is6() {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Immediate{Register: unix.NFT_REG_1, Data: r.To.Addr().AsSlice()},
		&expr.Immediate{Register: unix.NFT_REG_2, Data: binaryutil.BigEndian.PutUint16(r.To.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: unix.NFT_REG_1, RegProtoMin: unix.NFT_REG_2},
	}
}

func verdict(v runtime.Verdict) expr.Any {
	switch v {
	case runtime.Masquerade:
		return &expr.Masq{}
	case runtime.Return:
		return &expr.Verdict{Kind: expr.VerdictReturn}
	case runtime.DropIt:
		return &expr.Verdict{Kind: expr.VerdictDrop}
	}
	return &expr.Verdict{Kind: expr.VerdictAccept}
}

// ctBits matches what conntrack says of a packet, if any of these bits is set.
func ctBits(key expr.CtKey, bits uint32) []expr.Any {
	none := make([]byte, 4)
	return []expr.Any{
		&expr.Ct{Key: key, Register: unix.NFT_REG_1},
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: none},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: none},
	}
}

// matchPrefix compares an address of the header with a subnet.
func matchPrefix(p netip.Prefix, source bool, op expr.CmpOp) []expr.Any {
	offset := uint32(ipDest)
	switch {
	case p.Addr().Is4() && source:
		offset = ipSource
	case p.Addr().Is6() && source:
		offset = offsetSource6
	case p.Addr().Is6():
		offset = offsetDest6
	}
	size := uint32(p.Addr().BitLen() / 8)
	return []expr.Any{
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: size, Mask: ipNet(p).Mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: p.Masked().Addr().AsSlice()},
	}
}
