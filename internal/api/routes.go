package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	readOnlyText   = "this address is read-only; use the unix socket in the run directory"
	resolveTimeout = 10 * time.Second // for all names of one request
)

// readRoutes are those that change nothing: everybody on the machine may use them.
func (s *Server) readRoutes() *http.ServeMux {
	mux := http.NewServeMux()
	s.addReadRoutes(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			http.NotFound(w, r)
			return
		}
		http.Error(w, readOnlyText, http.StatusForbidden)
	})
	return mux
}

func (s *Server) addReadRoutes(mux *http.ServeMux) {
	if s.backends.Reporter != nil {
		mux.HandleFunc("GET /status", s.status(RenderStatus))
		mux.HandleFunc("GET /status/targets", s.status(RenderTargets))
		mux.HandleFunc("GET /status/connections", s.status(RenderConnections))
		mux.HandleFunc("GET /status/peers", s.status(RenderPeers))
		if s.backends.Space != nil {
			mux.HandleFunc("GET /status/ipam", s.status(RenderSpace))
			mux.HandleFunc("GET /status/ipam/check", s.status(RenderSpaceCheck))
		}
		if s.backends.Names != nil {
			mux.HandleFunc("GET /status/dns", s.status(RenderNames))
		}
		mux.HandleFunc("GET /report", s.report)
	}
	if s.backends.Metrics != nil {
		mux.Handle("GET /metrics", s.backends.Metrics)
	}
}

// writeRoutes are all routes.
func (s *Server) writeRoutes() *http.ServeMux {
	mux := http.NewServeMux()
	s.addReadRoutes(mux)
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { writeText(w, Version+"\n") })
	mux.HandleFunc("GET /instance", func(w http.ResponseWriter, _ *http.Request) { writeText(w, s.cfg.Instance+"\n") })
	if s.backends.Peers != nil {
		mux.HandleFunc("POST /connect", s.connect)
		mux.HandleFunc("POST /forget", s.forget)
	}
	if s.backends.Attacher != nil {
		mux.HandleFunc("POST /attach", placed(parseAttach, s.backends.Attacher.Attach))
		mux.HandleFunc("DELETE /attach", placed(parseAttach, s.backends.Attacher.Detach))
		mux.HandleFunc("GET /ps", s.ps)
	}
	if s.backends.Secrets != nil {
		s.addPasswordRoutes(mux)
	}
	if s.backends.Lifecycle != nil {
		mux.HandleFunc("POST /stop", s.stop)
		mux.HandleFunc("POST /reset", s.reset)
	}
	s.addSpaceRoutes(mux)
	s.addNameRoutes(mux)
	s.addHookRoutes(mux)
	s.addProxyRoutes(mux)
	s.addExposeRoutes(mux)
	s.addServiceRoutes(mux)
	s.addPolicyRoutes(mux)
	return mux
}

// guard bounds the body, reads the form, and turns a panic into an answer: one bad request must not take the
// daemon's switch down.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler { // net/http compares so
				s.cfg.Log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", p)
				http.Error(w, "internal error; see the log", http.StatusInternalServerError)
			}
		}()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := r.ParseForm(); err != nil {
			http.Error(w, "cannot read the request: "+err.Error(), http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// status serves a rendered report. Until the daemon is ready the same text comes with 503, so that whoever waits for
// it needs no second request to see why.
func (s *Server) status(render func(Report) string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		report := s.backends.Reporter.Report()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if !report.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, render(report))
	}
}

func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	if slices.Contains(r.Header.Values("Accept"), "application/json") {
		text, err := json.MarshalIndent(s.backends.Reporter.Report(), "", "    ")
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(text, '\n'))
		return
	}
	formats := r.Form["format"]
	if len(formats) != 1 {
		http.Error(w, "error: must supply one format parameter", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), templateTime, errTemplateTime)
	defer cancel()
	text, err := executeTemplate(ctx, formats[0], s.backends.Reporter.Report())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeText(w, text)
}

// connect adds the targets that are well formed and have an address, and answers 400 with a line for each other.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) {
	good, problems := s.checkTargets(r.Context(), r.Form["peer"])
	replace := r.Form.Get("replace") == "true"
	if len(good) > 0 || (replace && len(problems) == 0) {
		if err := s.backends.Peers.Connect(r.Context(), good, replace); err != nil {
			fail(w, err)
			return
		}
	}
	if len(problems) > 0 {
		http.Error(w, strings.Join(problems, "\n"), http.StatusBadRequest)
	}
}

// checkTargets looks the names up side by side: one slow name server must not cost its time once per name.
func (s *Server) checkTargets(ctx context.Context, targets []string) (good, problems []string) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	errs := make([]error, len(targets))
	var lookups sync.WaitGroup
	for i, target := range targets {
		lookups.Go(func() { errs[i] = CheckTarget(ctx, s.cfg.Resolver, target) })
	}
	lookups.Wait()
	for i, target := range targets {
		if errs[i] == nil {
			good = append(good, target)
		} else {
			problems = append(problems, errs[i].Error())
		}
	}
	return good, problems
}

func (s *Server) forget(w http.ResponseWriter, r *http.Request) {
	if err := s.backends.Peers.Forget(r.Context(), r.Form["peer"]); err != nil {
		fail(w, err)
	}
}

// placed answers requests that give something addresses, or take them, with those addresses.
func placed[R any](parse func(url.Values) (R, error), act func(context.Context, R) (AttachReply, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req, err := parse(r.Form)
		if err != nil {
			fail(w, err)
			return
		}
		reply, err := act(r.Context(), req)
		if err != nil {
			fail(w, err)
			return
		}
		warn(w, reply.Warnings)
		writeText(w, renderAddresses(reply.Addresses))
	}
}

// warningHeader has a line for the user beside an answer, several times if there are several.
const warningHeader = "Weave-Warning"

func warn(w http.ResponseWriter, warnings []string) {
	for _, text := range warnings {
		w.Header().Add(warningHeader, strings.Join(strings.Fields(text), " "))
	}
}

func (s *Server) ps(w http.ResponseWriter, r *http.Request) {
	names := r.Form["name"]
	containers, err := s.backends.Attacher.Containers(r.Context(), names)
	if err != nil {
		fail(w, err)
		return
	}
	writeText(w, RenderContainers(containers, len(names) > 0))
}

func (s *Server) stop(w http.ResponseWriter, r *http.Request) {
	noContent(w, r)
	s.backends.Lifecycle.Stop()
}

func (s *Server) reset(w http.ResponseWriter, r *http.Request) {
	if err := s.backends.Lifecycle.Reset(r.Context()); err != nil {
		fail(w, err)
		return
	}
	noContent(w, r)
	s.backends.Lifecycle.Stop()
}

func noContent(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text)
}

func fail(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	if se, ok := errors.AsType[*StatusError](err); ok && se.Code >= 200 && se.Code <= 599 {
		code = se.Code
	}
	http.Error(w, err.Error(), code)
}
