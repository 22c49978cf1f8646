package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"
)

// Numbers of SOCKS5: RFC 1928 sections 3, 4 and 6; RFC 1929 section 2.
const (
	socksVersion = 5

	socksNoAuth     = 0
	socksPassword   = 2
	socksNoneOfThem = 0xff

	socksConnect = 1

	socksIPv4   = 1
	socksDomain = 3
	socksIPv6   = 4

	socksSucceeded       = 0
	socksFailed          = 1
	socksNetUnreachable  = 3
	socksHostUnreachable = 4
	socksRefused         = 5
	socksTimedOut        = 6
	socksBadCommand      = 7
	socksBadAddress      = 8
)

// socksError is a request that cannot be served, with the code that says so.
type socksError struct {
	code byte
	why  string
}

func (e *socksError) Error() string { return e.why }

// readSOCKSMethods reads the greeting:
//
//	version (1) | number of methods (1) | methods
func readSOCKSMethods(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if head[0] != socksVersion {
		return nil, fmt.Errorf("SOCKS version %d, want 5", head[0])
	}
	methods := make([]byte, head[1])
	_, err := io.ReadFull(r, methods)
	return methods, err
}

// readSOCKSPassword reads who a program is (RFC 1929):
//
//	version 1 (1) | length (1) | user | length (1) | password
func readSOCKSPassword(r io.Reader) (user, password string, err error) {
	var version [1]byte
	if _, err = io.ReadFull(r, version[:]); err != nil {
		return "", "", err
	}
	if version[0] != 1 {
		return "", "", fmt.Errorf("version %d of the password, want 1", version[0])
	}
	if user, err = readShort(r); err != nil {
		return "", "", err
	}
	password, err = readShort(r)
	return user, password, err
}

// readShort reads a string behind its length in one byte.
func readShort(r io.Reader) (string, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", err
	}
	b := make([]byte, n[0])
	_, err := io.ReadFull(r, b)
	return string(b), err
}

// readSOCKSRequest reads where to connect to. A *socksError is to be answered with its code.
//
//	version (1) | command (1) | 0 (1) | type (1) | address: 4, 16, or length (1) and name | port (2)
func readSOCKSRequest(r io.Reader) (host string, port uint16, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", 0, err
	}
	if head[0] != socksVersion {
		return "", 0, fmt.Errorf("SOCKS version %d, want 5", head[0])
	}
	switch head[3] {
	case socksIPv4, socksIPv6:
		b := make([]byte, 4)
		if head[3] == socksIPv6 {
			b = make([]byte, 16)
		}
		if _, err := io.ReadFull(r, b); err != nil {
			return "", 0, err
		}
		a, _ := netip.AddrFromSlice(b)
		host = a.String()
	case socksDomain:
		if host, err = readShort(r); err != nil {
			return "", 0, err
		}
		if host == "" || bytes.IndexByte([]byte(host), 0) >= 0 {
			return "", 0, &socksError{socksFailed, "the name is no name"}
		}
	default:
		return "", 0, &socksError{socksBadAddress, fmt.Sprintf("address of type %d", head[3])}
	}
	var p [2]byte
	if _, err := io.ReadFull(r, p[:]); err != nil {
		return "", 0, err
	}
	if head[1] != socksConnect {
		return "", 0, &socksError{socksBadCommand, fmt.Sprintf("command %d: only CONNECT is served", head[1])}
	}
	return host, binary.BigEndian.Uint16(p[:]), nil
}

// serveSOCKS speaks SOCKS5 with a program.
func (p *Proxy) serveSOCKS(ctx context.Context, b *buffered) {
	if !p.socksHello(b) {
		p.h.count.connsRefused.Add(1)
		return
	}
	host, port, err := readSOCKSRequest(b)
	var refused *socksError
	if errors.As(err, &refused) {
		p.h.count.connsRefused.Add(1)
		_, _ = b.Write(socksReply(refused.code, netip.AddrPort{}))
	}
	if err != nil {
		return
	}
	out, err := p.dial(ctx, host, port)
	if err != nil {
		_, _ = b.Write(socksReply(socksCode(err), netip.AddrPort{}))
		return
	}
	if _, err := b.Write(socksReply(socksSucceeded, addrPort(out.LocalAddr()))); err != nil {
		out.Abort()
		return
	}
	p.carry(ctx, b, out)
}

// socksHello agrees on how the program proves who it is, and lets it.
func (p *Proxy) socksHello(b *buffered) bool {
	methods, err := readSOCKSMethods(b)
	if err != nil {
		return false
	}
	want := byte(socksNoAuth)
	if p.cfg.Password != "" {
		want = socksPassword
	}
	if bytes.IndexByte(methods, want) < 0 {
		_, _ = b.Write([]byte{socksVersion, socksNoneOfThem})
		return false
	}
	if _, err := b.Write([]byte{socksVersion, want}); err != nil || want == socksNoAuth {
		return err == nil
	}
	user, password, err := readSOCKSPassword(b)
	if err != nil {
		return false
	}
	if !p.admits(user, password) {
		_, _ = b.Write([]byte{1, 1})
		return false
	}
	_, err = b.Write([]byte{1, 0})
	return err == nil
}

// socksReply lays out an answer; the address is ours of the connection, 0.0.0.0 if there is none.
func socksReply(code byte, bound netip.AddrPort) []byte {
	out := []byte{socksVersion, code, 0, socksIPv4}
	switch {
	case !bound.IsValid():
		out = append(out, 0, 0, 0, 0)
	case bound.Addr().Is4():
		out = append(out, bound.Addr().AsSlice()...)
	default:
		out[3] = socksIPv6
		out = append(out, bound.Addr().AsSlice()...)
	}
	return binary.BigEndian.AppendUint16(out, bound.Port())
}

// socksCode is the code for why a connection failed.
func socksCode(err error) byte {
	switch {
	case errors.Is(err, errNoName), errors.Is(err, syscall.EHOSTUNREACH):
		return socksHostUnreachable
	case errors.Is(err, syscall.ECONNREFUSED):
		return socksRefused
	case errors.Is(err, syscall.ENETUNREACH):
		return socksNetUnreachable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return socksTimedOut
	}
	return socksFailed
}
