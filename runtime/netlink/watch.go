package netlink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	mnl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"weave/runtime"
)

const (
	settleRules = 100 * time.Millisecond // after a change of others, before ours are looked at
	retryRules  = time.Second            // after they could not be looked at, or changed
	lookAround  = 5 * time.Second        // between looks at what else the rules depend on
	watchBuffer = 1 << 20                // bytes; what does not fit is told as ENOBUFS
)

// chainID names a chain of the host.
type chainID struct {
	family       byte
	table, chain string
}

// WatchRules asserts the rules again when somebody has flushed them, or has made a chain that lacks them. It returns nil
// when ctx ends, and at once with an error where the kernel tells nothing of changes.
func (h *Host) WatchRules(ctx context.Context) error {
	conn, err := mnl.Dial(unix.NETLINK_NETFILTER, &mnl.Config{NetNS: int(h.space.file.Fd())})
	if err != nil {
		return fmt.Errorf("watch nf_tables: %w", err)
	}
	defer conn.Close()
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("watch nf_tables: %w", err)
	}
	_ = conn.SetReadBuffer(watchBuffer) // a smaller one means more guesses
	h.ears.Store(conn)
	defer h.ears.Store(nil)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed error
	var reader sync.WaitGroup
	reader.Go(func() {
		defer cancel()
		if err := h.readChanges(conn); ctx.Err() == nil {
			failed = fmt.Errorf("watch nf_tables: %w", err)
		}
	})
	h.heedChanges(ctx)
	conn.Close()
	reader.Wait()
	return failed
}

// quietly calls write while nobody here is told of changes: the kernel would tell of each of thousands of rules, which takes as long
// as writing them. What others do meanwhile is found by a look afterwards.
func (h *Host) quietly(write func() error) error {
	ears := h.ears.Load()
	if ears == nil || ears.LeaveGroup(unix.NFNLGRP_NFTABLES) != nil {
		return write()
	}
	err := write()
	if again := ears.JoinGroup(unix.NFNLGRP_NFTABLES); again != nil {
		h.log.Warn("changes of the host's rules are not noticed any more", "err", again)
	}
	h.lookSoon()
	return err
}

// readChanges passes on that something has changed until the socket fails or is closed.
func (h *Host) readChanges(conn *mnl.Conn) error {
	for {
		messages, err := conn.Receive()
		lost := errors.Is(err, unix.ENOBUFS) // told too much at once: something may have changed
		if err != nil && !lost {
			return err
		}
		for _, m := range messages {
			lost = lost || h.concerns(m)
		}
		if !lost {
			continue
		}
		h.lookSoon()
	}
}

// lookSoon has the rules looked at.
func (h *Host) lookSoon() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// heedChanges looks at the rules a moment after a change, however many follow it, and again later if that failed.
func (h *Host) heedChanges(ctx context.Context) {
	around := time.NewTicker(lookAround)
	defer around.Stop()
	last := h.surroundings()
	wait := time.NewTimer(0) // at once: something may have changed before the watch began
	defer wait.Stop()
	waiting, failing := true, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.changed:
			if !waiting {
				wait.Reset(settleRules)
				waiting = true
			}
			continue
		case <-around.C:
			if now := h.surroundings(); now != last {
				last = now
				h.lookSoon()
			}
			continue
		case <-wait.C:
		}
		err := h.keepRules()
		waiting = err != nil
		if err != nil {
			if !failing {
				h.log.Warn("the rules of the host cannot be asserted; trying on", "err", err)
			}
			wait.Reset(retryRules)
		}
		failing = err != nil
	}
}

// surroundings are what the rules depend on beside what is asked for. The kernel tells of neither with its rules.
type surroundings struct {
	docker   bool // Docker's own bridge is there
	tracking bool
}

func (h *Host) surroundings() surroundings {
	_, err := h.space.LinkByName(runtime.DockerBridge)
	return surroundings{docker: err == nil, tracking: h.tracking()}
}

// keepRules makes the rules anew if some are missing.
func (h *Host) keepRules() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	warnings, err := h.assertRules()
	for _, w := range warnings {
		h.log.Debug(w)
	}
	return errors.Join(err, h.keepGuard(), h.keepBridgeTables(), h.keepShieldRules())
}

// concerns tells whether a change may take rules of ours away, or may need more: one of our table, of a chain that
// decides what passes the host, or a new one of these. On a host with thousands of services others change rules all the
// time (include/uapi/linux/netfilter/nf_tables.h).
func (h *Host) concerns(m mnl.Message) bool {
	if len(m.Data) < 4 || m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES {
		return false
	}
	ad, err := mnl.NewAttributeDecoder(m.Data[4:])
	if err != nil {
		return false
	}
	id := chainID{family: m.Data[0]}
	kind, hooked := m.Header.Type&0xff, false
	ofRule := kind == unix.NFT_MSG_NEWRULE || kind == unix.NFT_MSG_DELRULE
	ofElement := kind == unix.NFT_MSG_NEWSETELEM || kind == unix.NFT_MSG_DELSETELEM
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_RULE_TABLE: // the same number as NFTA_CHAIN_TABLE and NFTA_TABLE_NAME
			id.table = ad.String()
		case unix.NFTA_RULE_CHAIN: // the same number as NFTA_SET_ELEM_LIST_SET
			if ofRule || ofElement {
				id.chain = ad.String()
			}
		case unix.NFTA_CHAIN_HOOK:
			hooked = kind == unix.NFT_MSG_NEWCHAIN
		}
	}
	if id.family == unix.NFPROTO_BRIDGE {
		if id.table != h.cfg.Bridge && id.table != h.policyTable() {
			return false
		}
		if ofElement && !isDynamic(id.chain) && !h.wrote.has(m.Header.PID) {
			h.tampered.Store(true) // counts of rules and sets do not show it
			return true
		}
		return takesAway[int(kind)]
	}
	ours := []string{h.cfg.Bridge, h.cfg.Bridge + guardSuffix, h.cfg.Bridge + shieldSuffix}
	own := slices.Contains(ours, id.table) && id.family == unix.NFPROTO_INET
	watched := h.watched.Load()
	return own || hooked || ofRule && watched != nil && (*watched)[id]
}

// senders are the sockets that we changed something by, the last ones. The kernel tells listeners who did.
type senders struct {
	mu   sync.Mutex
	last [64]uint32
	next int
}

func (s *senders) has(port uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.last[:], port)
}

// add notes a socket before it changes anything.
func (s *senders) add(conn *mnl.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var name unix.Sockaddr
	if failed := raw.Control(func(fd uintptr) { name, err = unix.Getsockname(int(fd)) }); failed != nil || err != nil {
		return errors.Join(failed, err)
	}
	if n, ok := name.(*unix.SockaddrNetlink); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.last[s.next] = n.Pid
		s.next = (s.next + 1) % len(s.last)
	}
	return nil
}

// takesAway are the messages that tell of something that is no more. Elements of sets are not among them: we change those all the time.
var takesAway = map[int]bool{
	unix.NFT_MSG_DELTABLE: true, unix.NFT_MSG_DELCHAIN: true, unix.NFT_MSG_DELRULE: true, unix.NFT_MSG_DELSET: true,
}
