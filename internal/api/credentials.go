package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"
)

type credentialsKey struct{}

// withCredentials notes who is at the other end of a unix connection, as the kernel saw it when they connected
// (SO_PEERCRED, unix(7)).
func withCredentials(ctx context.Context, c net.Conn) context.Context {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return ctx
	}
	return context.WithValue(ctx, credentialsKey{}, *cred)
}

// onlyOwner refuses callers that are neither our own user nor root. The socket's mode says the same; this holds also
// where somebody changed the mode or handed the socket into another mount.
func onlyOwner(next http.Handler) http.Handler {
	own := uint32(os.Geteuid())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cred, ok := r.Context().Value(credentialsKey{}).(unix.Ucred)
		if !ok || !allowed(cred.Uid, own) {
			http.Error(w, fmt.Sprintf("this socket serves only uid %d and root", own), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func allowed(uid, own uint32) bool { return uid == own || uid == 0 }
