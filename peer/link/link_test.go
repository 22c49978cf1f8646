package link

import (
	"bytes"
	"testing"
)

func TestRoundTripSmoke(t *testing.T) {
	for _, network := range []string{"udp4", "udp6"} {
		t.Run(network, func(t *testing.T) {
			a, b := pair(t, network, Config{})
			x, r := a.NewSender(8), b.NewReceiver(8)
			data := bytes.Repeat([]byte("0123456789"), 200)
			x.Add(local(b), data, 300)
			if res := x.Flush(); res.Sent != 7 || res.Errors != 0 {
				t.Fatalf("flush: %+v", res)
			}
			var got []byte
			for len(got) < len(data) {
				n, err := r.Receive()
				if err != nil {
					t.Fatal(err)
				}
				for i := range n {
					from, d, seg := r.Message(i)
					if from != local(a) || seg > 300 {
						t.Fatalf("from %v segment %d", from, seg)
					}
					got = append(got, d...)
				}
			}
			if !bytes.Equal(got, data) {
				t.Fatal("data differ")
			}
			t.Logf("%+v", b.Stats())
		})
	}
}
