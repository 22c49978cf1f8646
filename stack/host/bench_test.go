package host

import (
	"io"
	"net"
	"net/netip"
	"testing"
)

// BenchmarkTCP sends in one direction between two hosts on a wire of one copy.
func BenchmarkTCP(b *testing.B) {
	for _, f := range families {
		for name, cfg := range map[string]Config{"gso": {}, "plain": {NoGSO: true}} {
			b.Run(f.name+"/"+name, func(b *testing.B) {
				x, y, _ := pair(b, cfg)
				l, err := y.ListenTCP(netip.AddrPortFrom(f.b, 80))
				if err != nil {
					b.Fatal(err)
				}
				serve(b, l, func(c net.Conn) {
					_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10))
				})
				c, err := x.DialTCP(testContext(b), netip.AddrPortFrom(f.b, 80))
				if err != nil {
					b.Fatal(err)
				}
				chunk := make([]byte, 256<<10)
				b.SetBytes(int64(len(chunk)))
				for b.Loop() {
					if _, err := c.Write(chunk); err != nil {
						b.Fatal(err)
					}
				}
				_ = c.CloseWrite()
				_, _ = io.ReadAll(c) // until the other side has everything
				c.Close()
			})
		}
	}
}
