package wire

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// unsealed opens messages that were not encrypted, or finds that they were forged, when it has decrypted them already.
type unsealed struct{ forged bool }

var errForged = errors.New("forged")

func (u unsealed) OpenTo(dst, msg []byte) ([]byte, error) {
	out := append(dst, msg[DataHeaderLen:len(msg)-TagLen]...)
	if u.forged {
		return nil, errForged
	}
	return out, nil
}

// sealed is the message of a plaintext, for unsealed.
func sealed(plaintext []byte) []byte {
	return slices.Concat(make([]byte, DataHeaderLen), plaintext, make([]byte, TagLen))
}

// arrive has a joiner open and take a message.
func arrive(j *Joiner, source uint32, plaintext []byte, by Opener) Fault {
	plaintext, joined, err := j.Open(source, by, sealed(plaintext))
	if joined || err != nil {
		return FaultNone
	}
	_, fault := j.Add(source, plaintext)
	return fault
}

func TestOpenJoinsWhatComesNext(t *testing.T) {
	c, got := NewCutter(0, 0), story{}
	a := segments(5, 1, c)
	j := NewJoiner(&got, false)
	open := func(source uint32, plaintext []byte, by unsealed, want bool) {
		t.Helper()
		in := bytes.Clone(plaintext)
		out, joined, err := j.Open(source, by, sealed(in))
		if joined != want || (err != nil) != by.forged {
			t.Fatalf("joined %v, %v", joined, err)
		}
		if !joined && err == nil {
			if !bytes.Equal(out, plaintext) {
				t.Fatalf("opened %x, want %x", out, plaintext)
			}
			j.Add(source, out)
		}
	}
	alien := bytes.Clone(a[1])
	alien[segmentLen+40]++ // TCP sequence number
	open(1, a[0], unsealed{}, false)
	open(1, a[1], unsealed{}, true)
	open(1, a[2], unsealed{forged: true}, false)
	open(1, a[2], unsealed{}, true)
	open(2, a[3], unsealed{}, false) // another source
	open(1, a[3], unsealed{}, false) // not the run that grew last; Add finds its own
	got.want(t)
	open(2, a[4], unsealed{}, true)
	got.want(t, "2:254")
	open(1, a[4], unsealed{}, true)
	got.want(t, "2:254", "1:554")
	open(1, a[0], unsealed{}, false)
	open(1, alien, unsealed{}, false)
	j.Flush()
	got.want(t, "2:254", "1:554", "1:154", "1:154")
}
