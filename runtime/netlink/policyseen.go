package netlink

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	mnl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

// tableSeen is what is seen of a table of the bridge family.
type tableSeen struct {
	there    bool
	foreign  bool // it is to be taken away first
	sets     []string
	counters []string
	chains   []chainSeen
}

// chainSeen is a chain and how often it is used: by its rules, and by others that name it.
type chainSeen struct {
	name string
	uses int
}

// lookAtTable finds what a table has.
func (h *Host) lookAtTable(name string) (tableSeen, error) {
	var seen tableSeen
	conn, err := h.netfilter()
	if err != nil {
		return seen, err
	}
	defer func() { _ = conn.CloseLasting() }()
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyBridge)
	if err != nil {
		return seen, fmt.Errorf("list tables: %w", err)
	}
	if seen.there = slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == name }); !seen.there {
		return seen, nil
	}
	if seen.sets, err = h.list(name, unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME); err != nil {
		return seen, err
	}
	if seen.counters, err = h.list(name, unix.NFT_MSG_GETOBJ, unix.NFTA_OBJ_TABLE, unix.NFTA_OBJ_NAME); err != nil {
		return seen, err
	}
	seen.chains, err = h.listChains(name)
	return seen, err
}

// listChains lists a table's chains. The kernel sends those of all tables of the family.
func (h *Host) listChains(table string) ([]chainSeen, error) {
	var out []chainSeen
	err := h.dump(table, unix.NFT_MSG_GETCHAIN, unix.NFTA_CHAIN_TABLE, func(ad *mnl.AttributeDecoder) {
		ad.ByteOrder = bigEndian
		var c chainSeen
		ours := false
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_CHAIN_TABLE:
				ours = ad.String() == table
			case unix.NFTA_CHAIN_NAME:
				c.name = ad.String()
			case unix.NFTA_CHAIN_USE:
				c.uses = int(ad.Uint32())
			}
		}
		if ours {
			out = append(out, c)
		}
	})
	return out, err
}

// list asks for the names of what a table has of one kind.
func (h *Host) list(table string, kind int, tableAttr, nameAttr uint16) ([]string, error) {
	var names []string
	err := h.dump(table, kind, tableAttr, func(ad *mnl.AttributeDecoder) {
		for ad.Next() {
			if ad.Type() == nameAttr {
				names = append(names, ad.String())
			}
		}
	})
	return names, err
}

// dump asks for all that a table has of one kind.
func (h *Host) dump(table string, kind int, tableAttr uint16, take func(*mnl.AttributeDecoder)) error {
	conn, err := h.nftConn()
	if err != nil {
		return err
	}
	defer conn.Close()
	b := &batch{table: table}
	b.add(kind, mnl.Dump, func(a *attrs) { a.text(tableAttr, table) })
	got, err := conn.Execute(b.messages[0])
	if err != nil {
		return fmt.Errorf("list what table bridge %s has: %w", table, err)
	}
	for _, m := range got {
		if len(m.Data) < 4 {
			continue
		}
		ad, err := mnl.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return err
		}
		take(ad)
	}
	return nil
}

// PolicyCounts are the counters of rules, by text, and those of what no rule is about, by name.
func (h *Host) PolicyCounts() (map[string]runtime.PolicyCount, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.policy == nil {
		return nil, nil
	}
	texts := map[string]string{}
	for i := range h.policy.Rules {
		texts[counterName(h.policy.Rules[i].Text)] = h.policy.Rules[i].Text
	}
	out := map[string]runtime.PolicyCount{}
	err := h.dump(h.policyTable(), unix.NFT_MSG_GETOBJ, unix.NFTA_OBJ_TABLE, func(ad *mnl.AttributeDecoder) {
		name, count := readCounter(ad)
		if text, ok := texts[name]; ok {
			name = text
		}
		out[name] = count
	})
	if errors.Is(err, unix.ENOENT) { // somebody flushed it this moment
		return out, nil
	}
	return out, err
}

func readCounter(ad *mnl.AttributeDecoder) (name string, count runtime.PolicyCount) {
	ad.ByteOrder = bigEndian
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_OBJ_NAME:
			name = ad.String()
		case unix.NFTA_OBJ_DATA:
			ad.Nested(func(in *mnl.AttributeDecoder) error {
				in.ByteOrder = bigEndian
				for in.Next() {
					switch in.Type() {
					case unix.NFTA_COUNTER_BYTES:
						count.Bytes = in.Uint64()
					case unix.NFTA_COUNTER_PACKETS:
						count.Packets = in.Uint64()
					}
				}
				return nil
			})
		}
	}
	return name, count
}
