package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// Secrets changes the passwords that the daemon accepts while it runs.
type Secrets interface {
	// AddPassword accepts one more, behind those it dials with.
	AddPassword(ctx context.Context, password string) error
	// RetirePassword accepts one no longer; it is named by itself or by its ID.
	RetirePassword(ctx context.Context, which string) error
	Passwords() []Password
}

// Password is what may be told of one.
type Password struct {
	ID       string // 16 hex digits, the same on all peers
	Accepted int    // reachable peers that accept it, the own included
	Peers    int    // reachable peers, the own included
}

func (s *Server) addPasswordRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /password", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, renderPasswords(s.backends.Secrets.Passwords()))
	})
	mux.HandleFunc("POST /password/add", s.password(s.backends.Secrets.AddPassword))
	mux.HandleFunc("POST /password/retire", s.password(s.backends.Secrets.RetirePassword))
}

func (s *Server) password(change func(context.Context, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		password := r.PostForm.Get("password")
		if password == "" || strings.ContainsAny(password, "\r\n") {
			http.Error(w, "a password is needed, on one line", http.StatusBadRequest)
			return
		}
		if err := change(r.Context(), password); err != nil {
			fail(w, err)
		}
	}
}

// renderPasswords makes the text of `weave password list`.
func renderPasswords(all []Password) string {
	var b strings.Builder
	for _, p := range all {
		fmt.Fprintf(&b, "%s accepted by %d of %d peers\n", p.ID, p.Accepted, p.Peers)
	}
	return b.String()
}
