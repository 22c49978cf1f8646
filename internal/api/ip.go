package api

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
)

// addSpaceRoutes adds what concerns addresses, if they are allocated at all.
func (s *Server) addSpaceRoutes(mux *http.ServeMux) {
	if s.backends.Holders != nil {
		mux.HandleFunc("POST /ip/{id}", s.ipAllocate)
		mux.HandleFunc("POST /ip/{id}/{ip}/{len}", s.ipAllocate)
		mux.HandleFunc("GET /ip/{id}", s.ipLookup)
		mux.HandleFunc("GET /ip/{id}/{ip}/{len}", s.ipLookup)
		mux.HandleFunc("PUT /ip/{id}/{ip}/{len}", s.ipClaim)
		mux.HandleFunc("DELETE /ip/{id}/{ip}", s.ipFree)
		mux.HandleFunc("DELETE /ip/{id}", s.ipFree)
	}
	if s.backends.Space == nil {
		// The first step of a reset hands space over; there is none.
		mux.HandleFunc("DELETE /peer", noContent)
		return
	}
	mux.HandleFunc("GET /ip", s.ipList)
	mux.HandleFunc("GET /ring", func(w http.ResponseWriter, r *http.Request) {
		if err := s.backends.Space.Prime(r.Context()); err != nil {
			fail(w, err)
		}
	})
	mux.HandleFunc("GET /ipinfo/defaultsubnet", func(w http.ResponseWriter, _ *http.Request) {
		_, subnet := s.backends.Space.Waiting()
		writeText(w, subnet.String())
	})
	mux.HandleFunc("GET /ipinfo/tracker", func(w http.ResponseWriter, _ *http.Request) { writeText(w, "\n") })
	mux.HandleFunc("GET /ipinfo/waiting", func(w http.ResponseWriter, _ *http.Request) {
		reasons, _ := s.backends.Space.Waiting()
		writeText(w, strings.Join(append(reasons, ""), "\n"))
	})
	mux.HandleFunc("POST /ipinfo/repair", s.settle(func(*http.Request) any { return Repair{} }))
	mux.HandleFunc("DELETE /peer/{peer}", s.settle(func(r *http.Request) any { return RemovePeer{r.PathValue("peer")} }))
	mux.HandleFunc("DELETE /peer", func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.backends.Space.Settle(r.Context(), HandOver{}); err != nil {
			fail(w, err)
			return
		}
		noContent(w, r)
	})
}

func (s *Server) settle(what func(*http.Request) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := s.backends.Space.Settle(r.Context(), what(r))
		if err != nil {
			fail(w, err)
			return
		}
		writeText(w, text)
	}
}

// pathPrefix reads {ip}/{len}; an invalid prefix where the path has none.
func pathPrefix(r *http.Request) (netip.Prefix, error) {
	ip, length := r.PathValue("ip"), r.PathValue("len")
	if ip == "" && length == "" {
		return netip.Prefix{}, nil
	}
	prefix, err := netip.ParsePrefix(ip + "/" + length)
	if err != nil {
		return prefix, BadRequest("unable to parse ip addr: " + err.Error())
	}
	return prefix, nil
}

func (s *Server) ipAllocate(w http.ResponseWriter, r *http.Request) {
	subnet, err := pathPrefix(r)
	if err != nil {
		fail(w, err)
		return
	}
	got, err := s.backends.Holders.Allocate(r.Context(), r.PathValue("id"), subnet)
	if err != nil {
		fail(w, err)
		return
	}
	writeText(w, got.String())
}

func (s *Server) ipLookup(w http.ResponseWriter, r *http.Request) {
	subnet, err := pathPrefix(r)
	if err != nil {
		fail(w, err)
		return
	}
	all, err := s.backends.Holders.Lookup(r.Context(), r.PathValue("id"), subnet)
	if err != nil {
		fail(w, err)
		return
	}
	text := make([]string, len(all))
	for i, p := range all {
		text[i] = p.String()
	}
	writeText(w, strings.Join(text, " "))
}

func (s *Server) ipClaim(w http.ResponseWriter, r *http.Request) {
	cidr, err := pathPrefix(r)
	if err == nil {
		err = s.backends.Holders.Claim(r.Context(), r.PathValue("id"), cidr, r.Form.Get("noErrorOnUnknown") == "true")
	}
	if err != nil {
		fail(w, err)
		return
	}
	noContent(w, r)
}

func (s *Server) ipFree(w http.ResponseWriter, r *http.Request) {
	var addr netip.Addr
	if text := r.PathValue("ip"); text != "" {
		var err error
		if addr, err = netip.ParseAddr(text); err != nil {
			fail(w, BadRequest("unable to parse ip addr: "+err.Error()))
			return
		}
	}
	if err := s.backends.Holders.Free(r.Context(), r.PathValue("id"), addr); err != nil {
		fail(w, err)
		return
	}
	noContent(w, r)
}

func (s *Server) ipList(w http.ResponseWriter, r *http.Request) {
	owned, err := s.backends.Space.Owned(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	if owned == nil {
		owned = []OwnedAddresses{}
	}
	text, err := json.Marshal(map[string]any{"owned": owned})
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}
