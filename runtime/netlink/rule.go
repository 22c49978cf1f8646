package netlink

import (
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
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
		out = append(out, known()...)
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
	return append(out, &expr.Counter{}, verdict(r.Verdict))
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

// known matches what belongs to a connection that exists, or is related to one.
func known() []expr.Any {
	states := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	none := make([]byte, 4)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: unix.NFT_REG_1},
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4, Mask: states, Xor: none},
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
