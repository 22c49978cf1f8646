package control

import (
	"crypto/ecdh"
	"testing"

	"google.golang.org/protobuf/proto"

	"weave/peer/wire"
)

func public(t testing.TB, private [32]byte) [32]byte {
	t.Helper()
	k, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(k.PublicKey().Bytes())
}

func TestConnectBothWays(t *testing.T) {
	a := start(t, Config{Private: key("a"), PSK: key("psk"), Password: true})
	b := start(t, Config{Private: key("b"), PSK: key("psk"), Password: true})
	ca, cb := join(a, b)
	if ca.Static() != public(t, key("b")) || cb.Static() != public(t, key("a")) {
		t.Fatal("static keys are not those of the peers")
	}
	if ca.Dialled() != b.addr.String() || cb.Dialled() != "" || ca.Remote() != b.addr {
		t.Fatalf("dialled %q %q, remote %v", ca.Dialled(), cb.Dialled(), ca.Remote())
	}
	hello := &wire.Control{Kind: &wire.Control_Hello{Hello: &wire.Hello{MinVersion: 1, Tiebreak: 7}}}
	ca.Send(hello)
	if m := await[Message](b); !proto.Equal(m.Message, hello) || m.Conn != cb {
		t.Fatalf("got %v", m.Message)
	}
	b.Send(cb.ID(), hello)
	if m := await[Message](a); !proto.Equal(m.Message, hello) || m.Conn != ca {
		t.Fatalf("got %v", m.Message)
	}
	b.Close(cb.ID(), "enough")
	if d := await[Down](a); d.Err.Error() != "peer closed the connection: enough" {
		t.Fatalf("a: %v", d.Err)
	}
	if d := await[Down](b); d.Err.Error() != "enough" {
		t.Fatalf("b: %v", d.Err)
	}
}
