package docker_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"weave/runtime"
	"weave/runtime/docker"
	"weave/runtime/enginetest"
)

func TestEngineExchanged(t *testing.T) {
	var paths []string
	w := &wire{}
	w.answer = func(out http.ResponseWriter, r *http.Request, what string) {
		paths = append(paths, r.URL.Path)
		fmt.Fprint(out, `{"Id":"aa"}`)
	}
	e := serve(t, w)
	for _, version := range []string{"1.41", "1.44", "1.40", "1.56"} { // upgrades and a downgrade
		w.version.Store(version)
		if _, err := e.Inspect(t.Context(), "x"); err != nil {
			t.Fatalf("engine with API %s: %v", version, err)
		}
	}
	want := []string{
		"/v1.41/containers/x/json", "/v1.44/containers/x/json", "/v1.40/containers/x/json", "/v1.56/containers/x/json",
	}
	if !slices.Equal(paths, want) {
		t.Errorf("asked %q, want %q", paths, want)
	}
	w.version.Store("1.24")
	if _, err := e.Inspect(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "1.24") {
		t.Errorf("engine with API 1.24: %v, want an error that says so", err)
	}
}

func TestMalformedAnswers(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request, string){
		"nothing":      always(200, ""),
		"short":        always(200, `{"Id":"aa","Name":"/x`),
		"null":         always(200, "null"),
		"no id":        always(200, "{}"),
		"other type":   always(200, `[1,2]`),
		"other fields": always(200, `{"Id":5}`),
		"a web page":   always(200, "<html>"),
		"500":          always(500, "oops"),
		"500 empty":    always(500, ""),
		"400":          always(400, "{"),
		"cut": func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"Id":"aa"`)
		},
	} {
		e := serve(t, &wire{answer: answer})
		if c, err := e.Inspect(t.Context(), "x"); err == nil || errors.Is(err, runtime.ErrNoContainer) {
			t.Errorf("inspect, %s: %+v, %v; want another error", name, c, err)
		}
		if name == "nothing" || name == "null" {
			continue // a good answer to list
		}
		if all, err := e.List(t.Context()); err == nil && len(all) > 0 {
			t.Errorf("list, %s: %+v, want an error", name, all)
		}
	}
}

func TestSparseAnswers(t *testing.T) {
	for _, body := range []string{
		`{"Id":"aa"}`,
		`{"Id":"aa","State":null,"Config":null,"HostConfig":null,"NetworkSettings":null}`,
		`{"Id":"aa","State":{"Running":true,"Restarting":true},"NetworkSettings":{"Networks":{"n":null}}}`,
	} {
		c, err := serve(t, &wire{answer: always(200, body)}).Inspect(t.Context(), "x")
		if err != nil || c.ID != "aa" || c.Running || c.PID != 0 {
			t.Errorf("%s: %+v, %v", body, c, err)
		}
	}
}

// TestNewEngine has the lists of names that engines have since 25, and a reference to a container by name.
func TestNewEngine(t *testing.T) {
	id, other := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	e := serve(t, &wire{answer: func(w http.ResponseWriter, _ *http.Request, what string) {
		if what == "/containers/base/json" {
			fmt.Fprintf(w, `{"Id":%q}`, other)
			return
		}
		fmt.Fprintf(w, `{"Id":%q,"Name":"/me","HostConfig":{"NetworkMode":"container:base"},"NetworkSettings":{"Networks":{
			"n":{"Aliases":["al"],"DNSNames":["me","al","abababababab"]},"m":{"DNSNames":["second"]}}}}`, id)
	}})
	c, err := e.Inspect(t.Context(), "me")
	if err != nil || !slices.Equal(c.Aliases, []string{"al", "second"}) || c.NetworkMode != "container:"+other {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestListOfManyWithSomeGone(t *testing.T) {
	var now, most atomic.Int32
	e := serve(t, &wire{answer: func(w http.ResponseWriter, _ *http.Request, what string) {
		if what == "/containers/json" {
			var items []string
			for i := range 100 {
				items = append(items, fmt.Sprintf(`{"Id":"%03d"}`, i))
			}
			fmt.Fprintf(w, "[%s]", strings.Join(items, ","))
			return
		}
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			continue
		}
		id := strings.Split(what, "/")[2]
		if strings.HasSuffix(id, "7") {
			always(404, `{"message":"No such container"}`)(w, nil, "")
			return
		}
		fmt.Fprintf(w, `{"Id":%q,"State":{"Running":true,"Pid":1}}`, id)
	}})
	all, err := e.List(t.Context())
	if err != nil || len(all) != 90 || all[0].ID != "000" || all[89].ID != "099" {
		t.Errorf("%d containers, %v; want the 90 that are left, in order", len(all), err)
	}
	if most.Load() > 8 {
		t.Errorf("%d requests at once, want at most 8", most.Load())
	}
}

// TestSilence tests that calls end with their contexts and leave nothing behind; TestMain looks for goroutines.
func TestSilence(t *testing.T) {
	left := make(chan struct{}, 10)
	e := serve(t, &wire{answer: func(_ http.ResponseWriter, r *http.Request, _ string) {
		<-r.Context().Done() // the other end has hung up
		left <- struct{}{}
	}})
	enginetest.Silence(t, e, left)
}

func TestEndpoints(t *testing.T) {
	for _, bad := range []string{"/run/docker.sock", "unix://", "unix://host/x", "tcp://", "tcp://host", "ssh://a@b", "http://x:1", "\x00"} {
		if _, err := docker.Open("engine", bad); err == nil || !strings.Contains(err.Error(), "engine") {
			t.Errorf("open %q: %v, want an error", bad, err)
		}
	}
	t.Setenv("DOCKER_HOST", "")
	e, err := docker.Open("engine", "")
	if err != nil || e.Endpoint() != docker.DefaultEndpoint {
		t.Errorf("without an endpoint: %v, %v", e, err)
	}
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	if e, err = docker.Open("engine", ""); err != nil || e.Endpoint() != "tcp://127.0.0.1:1" {
		t.Errorf("DOCKER_HOST: %v, %v", e, err)
	}
	if _, err = e.Inspect(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "tcp://127.0.0.1:1") {
		t.Errorf("inspect where nobody listens: %v, want an error that says where", err)
	}
	t.Setenv("DOCKER_CERT_PATH", t.TempDir())
	if _, err = docker.Open("engine", ""); err == nil || !strings.Contains(err.Error(), "DOCKER_CERT_PATH") {
		t.Errorf("without certificates: %v, want an error", err)
	}
}
