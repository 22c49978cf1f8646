//go:build remote

package podman

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"weave/runtime"
	"weave/runtime/enginetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

type answer func(w http.ResponseWriter, r *http.Request, what string)

// serve makes an Engine whose other end answers with that, at the paths behind libpod's version.
func serve(t *testing.T, a answer) *Engine {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: a}}
	s.Start()
	t.Cleanup(s.Close)
	e, err := Open("engine", "unix://"+socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func (a answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, what, _ := strings.Cut(r.URL.Path, "/libpod")
	switch {
	case strings.HasSuffix(r.URL.Path, "/_ping"):
		w.Header().Set("Libpod-Api-Version", "4.3.1")
	case what == "/version":
		fmt.Fprint(w, `{"Version":"4.3.1"}`)
	default:
		a(w, r, what)
	}
}

func always(status int, body string) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// stream answers a request for events with them, and then ends.
func stream(events ...string) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		fmt.Fprint(w, strings.Join(events, "\n"))
	}
}

func TestMalformedAnswers(t *testing.T) {
	for name, a := range map[string]answer{
		"nothing":      always(200, ""),
		"short":        always(200, `{"Id":"aa","Name":"x`),
		"null":         always(200, "null"),
		"no id":        always(200, "{}"),
		"other type":   always(200, `[1,2]`),
		"other fields": always(200, `{"Id":5}`),
		"a web page":   always(200, "<html>"),
		"500":          always(500, `{"cause":"c","message":"out of order","response":500}`),
		"500 empty":    always(500, ""),
		"400":          always(400, "{}"),
		"cut": func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"Id":"aa"`)
		},
	} {
		e := serve(t, a)
		if c, err := e.Inspect(t.Context(), "x"); err == nil || errors.Is(err, runtime.ErrNoContainer) {
			t.Errorf("inspect, %s: %+v, %v; want another error", name, c, err)
		}
		if all, err := e.List(t.Context()); err == nil && len(all) > 0 {
			t.Errorf("list, %s: %+v, want an error", name, all)
		}
	}
}

func TestRefusals(t *testing.T) {
	for body, want := range map[string]error{
		`{"cause":"no such container","message":"no container x","response":404}`:     runtime.ErrNoContainer,
		`{"cause":"exists","message":"more than one result for ID x","response":404}`: runtime.ErrNoContainer,
		`{"cause":"container state improper","message":"m","response":404}`:           nil,
	} {
		if err := serve(t, always(404, body)).Kill(t.Context(), "x"); !errors.Is(err, want) {
			t.Errorf("kill, %s: %v, want %v", body, err, want)
		}
	}
}

func TestConvert(t *testing.T) {
	id := strings.Repeat("ab", 32)
	for body, want := range map[string]runtime.Container{
		`{}`: {},
		`{"Id":"` + id + `","Name":"n","Path":"sh","Args":["sh"],"State":{"Paused":true,"Pid":7},"NetworkSettings":{
			"SandboxKey":"/run/netns/x","Networks":{"p":{"Aliases":["al","abababababab","n"]},"q":null}}}`: {
			ID: id, Name: "n", Running: true, PID: 7, Sandbox: "/run/netns/x", Entrypoint: []string{"sh"}, Aliases: []string{"al"},
		},
		`{"Id":"` + id + `","State":{"Running":true,"Pid":7},"Path":"a","Args":["b","c"],"NetworkSettings":{
			"SandboxKey":"/run/user/1/netns/x"},"HostConfig":{"NetworkMode":"slirp4netns"}}`: {
			ID: id, Running: true, PID: 7, Entrypoint: []string{"a", "b", "c"}, NetworkMode: "slirp4netns",
		},
		`{"Id":"` + id + `","State":{"Pid":7},"NetworkSettings":{"SandboxKey":"/run/netns/x"}}`: {ID: id},
	} {
		var in inspected
		if err := json.Unmarshal([]byte(body), &in); err != nil {
			t.Fatal(err)
		}
		if got := in.convert(""); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%s:\n%+v, want\n%+v", body, got, want)
		}
	}
}

func TestWatchTellsWhatMatters(t *testing.T) {
	asked := make(chan error, 1)
	e := serve(t, func(w http.ResponseWriter, r *http.Request, what string) {
		at, err := time.Parse(time.RFC3339Nano, r.FormValue("since"))
		if err == nil && (at.After(time.Now()) || time.Since(at) > patience) {
			err = fmt.Errorf("since %v", at)
		}
		asked <- err
		stream(`{"Type":"container","Action":"start","Actor":{"ID":"a"}}`,
			`{"Type":"pod","Action":"start","Actor":{"ID":"p"}}`, "null", "{}",
			`{"Type":"container","Action":"exec","Actor":{"ID":"a"}}`, `{"Type":"container","Action":"start"}`,
			`{"Type":"container","Action":"rename","Actor":{"ID":"a"}}`,
			`{"Type":"container","Action":"died","Actor":{"ID":"a"}}`,
			`{"Type":"container","Action":"remove","Actor":{"ID":"a"}}`)(w, r, what)
	})
	got, err := enginetest.Collect(t.Context(), t, e)
	want := []runtime.Event{
		{Change: runtime.Watching, ID: "4.3.1"},
		{Change: runtime.Started, ID: "a"},
		{Change: runtime.Renamed, ID: "a"},
		{Change: runtime.Died, ID: "a"},
		{Change: runtime.Removed, ID: "a"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err == nil || !strings.Contains(err.Error(), "engine: watch: ") {
		t.Errorf("watch returned %v, want an error that names the engine", err)
	}
	if err := <-asked; err != nil {
		t.Errorf("the request for events does not reach back to its own making: %v", err)
	}
}

func TestWatchFails(t *testing.T) {
	if got, err := enginetest.Collect(t.Context(), t, serve(t, always(500, ""))); err == nil || len(got) > 0 {
		t.Errorf("refused: %v, %v; want no event and an error", got, err)
	}
	for name, a := range map[string]answer{
		"not JSON": stream("<html>"),
		"cut":      stream(`{"Type":"contai`),
		"an error": stream(`{"cause":"c","message":"the journal is gone","response":500}`),
	} {
		got, err := enginetest.Collect(t.Context(), t, serve(t, a))
		if err == nil || len(got) != 1 {
			t.Errorf("%s: %v, %v; want Watching and an error", name, got, err)
		}
		if name == "an error" && !strings.Contains(err.Error(), "journal") {
			t.Errorf("%s: %v, want the service's reason", name, err)
		}
	}
}

// TestSilence tests that calls end with their contexts, at once, and leave nothing behind; TestMain looks for goroutines.
func TestSilence(t *testing.T) {
	left := make(chan struct{}, 10)
	e := serve(t, func(_ http.ResponseWriter, r *http.Request, _ string) {
		<-r.Context().Done() // the other end has hung up
		left <- struct{}{}
	})
	enginetest.Silence(t, e, left)
}

func TestEndpoints(t *testing.T) {
	for _, bad := range []string{"/run/podman.sock", "unix://", "unix://host/x", "tcp://", "tcp://host", "ssh://a@b", "\x00"} {
		if _, err := Open("engine", bad); err == nil || !strings.Contains(err.Error(), "engine") {
			t.Errorf("open %q: %v, want an error", bad, err)
		}
	}
	if e, err := Open("engine", ""); err != nil || e.Endpoint() != RootEndpoint {
		t.Errorf("without an endpoint: %v, %v", e, err)
	}
	if got, want := UserEndpoint("/run/user/5"), "unix:///run/user/5/podman/podman.sock"; got != want {
		t.Errorf("a user's endpoint: %s, want %s", got, want)
	}
	docker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer docker.Close()
	e, err := Open("engine", strings.Replace(docker.URL, "http://", "tcp://", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.List(t.Context()); err == nil || !strings.Contains(err.Error(), "not Podman") {
		t.Errorf("list of another service: %v, want an error that says so", err)
	}
}

func FuzzInspected(f *testing.F) {
	f.Add([]byte(`{"Id":"aa","Args":["b"],"NetworkSettings":{"Networks":{"p":{"Aliases":["al"]}}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var in inspected
		if json.Unmarshal(body, &in) != nil {
			return
		}
		c := in.convert("podman")
		if c.Running != (c.PID > 0) || (c.Sandbox != "" && !c.Running) || !slices.IsSorted(c.Aliases) {
			t.Errorf("%+v", c)
		}
	})
}
