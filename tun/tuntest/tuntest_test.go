package tuntest_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"weave/tun"
	"weave/tun/tuntest"
)

// queue is what a reader and writer of packets needs; real queues and ends of a pipe have it alike.
type queue interface {
	Control(f func(fd uintptr)) error
	TryRead(buf []byte) (int, error)
	WriteV(parts [][]byte) error
}

var (
	_ queue = (*tun.Queue)(nil)
	_ queue = (*tuntest.End)(nil)
)

func TestPipe(t *testing.T) {
	if tuntest.HeaderLen != tun.HeaderLen {
		t.Fatal("headers differ")
	}
	a, b := tuntest.Pipe(2)
	buf := make([]byte, 100)
	if n, err := b.TryRead(buf); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	for range 3 {
		if err := a.WriteFrame([]byte("frame")); err != nil {
			t.Fatal(err)
		}
	}
	if a.Dropped() != 1 {
		t.Fatal(a.Dropped())
	}
	want := append(make([]byte, tun.HeaderLen), "frame"...)
	for _, read := range []func([]byte) (int, error){b.Read, b.TryRead} {
		if n, err := read(buf); err != nil || !bytes.Equal(buf[:n], want) {
			t.Fatal(buf[:n], err)
		}
	}
	if err := b.WriteV([][]byte{want, nil, []byte("s")}); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Read(buf); err != nil || n != len(want)+1 {
		t.Fatal(n, err)
	}
	blocked := make(chan error)
	go func() {
		_, err := b.Read(buf)
		blocked <- err
	}()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-blocked; !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	_, tryErr := a.TryRead(buf)
	for _, err := range []error{a.Close(), b.Close(), a.WriteFrame(nil), tryErr} {
		if !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
}
