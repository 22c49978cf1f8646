package docker_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"weave/runtime/docker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet takes what the servers say about the clients that they refuse.
var quiet = log.New(io.Discard, "", 0)

const patience = 20 * time.Second

// wire is what an engine would say. Its clients reach it through a unix socket, as they do an engine.
type wire struct {
	version atomic.Value                                              // of the API, a string
	answer  func(w http.ResponseWriter, r *http.Request, what string) // to what: the path without the API's version
}

// serve makes an Engine whose other end is the wire.
func serve(t *testing.T, w *wire) *docker.Engine {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: w}}
	s.Start()
	t.Cleanup(s.Close)
	e, err := docker.Open("engine", "unix://"+socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func (w *wire) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	version, _ := w.version.Load().(string)
	if version == "" {
		version = "1.41"
	}
	if r.URL.Path == "/_ping" {
		out.Header().Set("Api-Version", version)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v"+version)
	switch {
	case !ok:
		out.Header().Set("Content-Type", "application/json")
		out.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(out, `{"message":"client version is too old or too new. The API version is %s"}`, version)
	case path == "/version":
		fmt.Fprint(out, `{"Version":"20.10"}`)
	default:
		w.answer(out, r, path)
	}
}

// always answers everything with a status and a body.
func always(status int, body string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}
