package session

import "net/netip"

// datagram sorts the handshake messages. What is cheap to check is checked first.
func (t turn) datagram(in Datagram) {
	if len(in.Bytes) == 0 {
		t.e.drop(in.From, DropMalformed)
		return
	}
	reason, ok := DropMalformed, false
	switch in.Bytes[0] {
	case typeInitiation:
		reason, ok = t.initiation(in)
	case typeResponse:
		reason, ok = t.response(in)
	case typeCookie:
		reason, ok = t.cookie(in)
	}
	if !ok {
		t.e.drop(in.From, reason)
	}
}

// admit is what messages 1 and 2 must pass before public-key work is done for them.
func (t turn) admit(in Datagram, suite Suite, sender uint32) (DropReason, bool) {
	if suite == SuiteAESGCM && t.m.noAES {
		return DropSuite, false
	}
	if !t.m.macs.validMAC1(in.Bytes) {
		return DropMAC1, false
	}
	if !in.UnderLoad {
		return 0, true
	}
	life := int64(t.m.limits.CookieLifetime)
	if t.m.jar.valid(in.Bytes, in.From, t.now, life) {
		return DropRateLimited, t.m.limiter.allow(in.From.Addr(), t.now)
	}
	reply, err := t.m.jar.reply(&t.m.macs, t.m.noise.rand, in.Bytes, sender, in.From, t.now, life)
	if err != nil {
		return DropNoRandom, false
	}
	t.e.Send = append(t.e.Send, Send{To: in.From, Bytes: reply})
	return DropCookie, false
}

func layoutReason(err error) DropReason {
	if err == errSuite {
		return DropSuite
	}
	return DropMalformed
}

// initiation answers message 1.
func (t turn) initiation(in Datagram) (DropReason, bool) {
	msg, err := parseInitiation(in.Bytes)
	if err != nil {
		return layoutReason(err), false
	}
	if reason, ok := t.admit(in, msg.suite, msg.sender); !ok {
		return reason, false
	}
	shake, err := t.m.noise.begin(msg.suite, msg.suite.prologue(), nil, nil)
	if err != nil {
		return DropForged, false
	}
	defer shake.wipe()
	key, at, err := shake.accept(msg.noise)
	if err != nil {
		return DropForged, false
	}
	p := t.m.peers[key]
	switch {
	case p == nil:
		return DropUnknownPeer, false
	case msg.suite == SuiteClear && !p.clear:
		return DropSuite, false
	case !at.After(p.newest):
		return DropReplay, false
	case p.accepted != 0 && t.now-p.accepted < int64(t.m.limits.InitiationGap):
		return DropFlood, false
	}
	p.newest, p.accepted = at, t.now
	return t.respond(p, shake, msg.sender, in.From)
}

// respond sends message 2; its keypair waits for the initiator's first data message.
func (t turn) respond(p *peer, shake *handshake, remote uint32, to netip.AddrPort) (DropReason, bool) {
	index, err := t.m.newIndex(p)
	if err != nil {
		return DropNoRandom, false
	}
	msg, keys, err := shake.respond(newResponse(shake.suite, index, remote), &p.psk)
	if err != nil {
		delete(t.m.indexes, index)
		return DropNoRandom, false
	}
	p.keys.received(t.now, false)
	t.install(p, keypairID{peer: p.key, local: index, remote: remote, suite: shake.suite}, keys)
	p.lastSent = t.now
	p.keys.sent(t.now, false)
	msg = p.macs.seal(msg, t.now, int64(t.m.limits.CookieLifetime))
	t.e.Send = append(t.e.Send, Send{Peer: p.key, To: to, Bytes: msg})
	return 0, true
}

// response takes message 2 and with it ends our attempt. The index passes from the handshake to the keypair.
func (t turn) response(in Datagram) (DropReason, bool) {
	msg, err := parseResponse(in.Bytes)
	if err != nil {
		return layoutReason(err), false
	}
	if reason, ok := t.admit(in, msg.suite, msg.sender); !ok {
		return reason, false
	}
	p := t.m.indexes[msg.receiver]
	if p == nil || p.attempt.shake == nil || p.attempt.index != msg.receiver {
		return DropUnknownIndex, false
	}
	shake := p.attempt.shake
	if shake.suite != msg.suite {
		return DropSuite, false
	}
	keys, err := shake.finish(msg.noise)
	if err != nil {
		return DropForged, false
	}
	shake.wipe()
	p.attempt = attempt{}
	p.keys.received(t.now, false)
	t.install(p, keypairID{
		peer: p.key, local: msg.receiver, remote: msg.sender, suite: msg.suite, initiator: true,
	}, keys)
	t.e.Keepalive = append(t.e.Keepalive, p.key)
	return 0, true
}

func (t turn) install(p *peer, id keypairID, keys *transport) {
	k, err := newKeypair(id, p.keys, t.m.limits, &keys.send, &keys.receive)
	if err != nil { // a cipher of this suite cannot be made: not the network's doing
		panic("session: " + err.Error())
	}
	p.keys.install(k)
	t.e.Install = append(t.e.Install, Install{Peer: p.key, Keypair: k})
	t.look(p)
}

// cookie takes message 3: a mac2 is added from the next repetition on.
func (t turn) cookie(in Datagram) (DropReason, bool) {
	msg, err := parseCookie(in.Bytes)
	if err != nil {
		return DropMalformed, false
	}
	p := t.m.indexes[msg.receiver]
	if p == nil {
		return DropUnknownIndex, false
	}
	return DropForged, p.macs.accept(msg, t.now)
}
