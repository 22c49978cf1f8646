package api

import (
	"context"
	"encoding/json"
	"net/http"
)

// Hooks takes what OCI hooks tell.
type Hooks interface {
	// Hook attaches a container that is being made, if it is to be, or clears up after one that ended. It returns when
	// that is done: the runtime waits.
	Hook(ctx context.Context, req HookRequest) (HookReply, error)
}

// HookReply says what the hook is to write, which it does itself: rootless engines have mounts of their own.
type HookReply struct {
	NameServer string // an address for the container's resolv.conf, "" = that stays as it is
	Domain     string // to search
}

// HookRequest is what a hook knows: the runtime's state, the bundle's config.json, and what only the engine has.
type HookRequest struct {
	State  json.RawMessage
	Config json.RawMessage
	Engine string
	Name   string
	Labels map[string]string
	All    bool // containers that wish for nothing are attached too
}

func (s *Server) addHookRoutes(mux *http.ServeMux) {
	b := s.backends.Hooks
	if b == nil {
		return
	}
	mux.HandleFunc("POST /hook", func(w http.ResponseWriter, r *http.Request) {
		var req HookRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			fail(w, BadRequest("error: the hook's request is no JSON: "+err.Error()))
			return
		}
		reply, err := b.Hook(r.Context(), req)
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(reply)
	})
}
