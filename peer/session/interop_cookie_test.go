package session

import (
	"bytes"
	"testing"
	"time"
)

// TestDeviceObeysOurCookie takes the 5 s after which the device repeats its initiation.
func TestDeviceObeysOurCookie(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the device's retransmission")
	}
	t.Parallel()
	p := newPair(t)
	p.underLoad = true
	p.fromDevice()
	if len(p.dropped) == 0 || p.dropped[0] != DropCookie {
		t.Errorf("the first initiation should have been answered with a cookie; drops: %v", p.dropped)
	}
	p.toDevice()
}

// TestWeObeyTheDevicesCookie floods the device from elsewhere, so that it asks us for a cookie.
func TestWeObeyTheDevicesCookie(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	flood := p.floodDevice()
	for try := 0; p.cookies == 0 || p.sending() == nil; try++ {
		if try == 20 {
			t.Fatalf("%d cookies, keypair %v", p.cookies, p.sending())
		}
		before := p.cookies
		flood()
		p.push(Want{Key: p.peer})
		p.push(Tick{})
		p.push(Datagram{From: addrB, Bytes: p.nextMessage()})
		if p.cookies == 0 { // it was not loaded enough and answered: begin anew
			p.skew += 200 * time.Second
		} else if p.cookies > before {
			p.skew += 6 * time.Second // until our next try
		}
	}
	if !p.mac2 {
		t.Error("we got a cookie and did not use it")
	}
	p.toDevice()
}

// floodDevice returns a function that makes the device busy: initiations that cost it a Diffie-Hellman each, from an
// address of which we never see the replies.
func (p *pair) floodDevice() func() {
	stranger, keys := addrB, newMACKeys(p.peer)
	msg := newInitiation(SuiteWireGuard, 1)
	msg = append(msg, bytes.Repeat([]byte{9}, initiationLen-2*macLen-len(msg))...)
	sender := macSender{keys: keys}
	msg = sender.seal(msg, 1, 0)
	return func() {
		for range 1024 {
			p.bind.in <- packet{endpoint(stranger), msg}
		}
	}
}
