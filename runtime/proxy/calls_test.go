package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeDocker answers what the proxy asks of an engine, and keeps what it was asked for.
type fakeDocker struct {
	mu      sync.Mutex
	created []string // bodies
	execs   []string
	killed  []string
	started int
}

func (d *fakeDocker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	d.mu.Lock()
	defer d.mu.Unlock()
	p := regexp.MustCompile(`^/v1[.0-9]+`).ReplaceAllString(r.URL.Path, "")
	switch {
	case p == "/images/reg.example:5000/a/web:1/json":
		_, _ = io.WriteString(w, `{"Config":{"Entrypoint":["/entry"],"Cmd":["serve"],"Env":["PATH=/bin"]}}`)
	case strings.HasPrefix(p, "/images/broken"):
		http.Error(w, `{"message":"the disk is on fire"}`, http.StatusInsufficientStorage)
	case strings.HasPrefix(p, "/images/"):
		http.Error(w, `{"message":"No such image"}`, http.StatusNotFound)
	case p == "/containers/create":
		d.created = append(d.created, string(body))
		w.WriteHeader(http.StatusCreated)
	case p == "/containers/mine/json" || p == "/containers/aa11/json":
		_, _ = io.WriteString(w, `{"Id":"aa11","Config":{"Entrypoint":["/w/w","x"]},"Mounts":[{"Destination":"/w"}],"NetworkSettings":{"IPAddress":"172.17.0.2","Ports":{},"Big":12345678901234567890}}`)
	case p == "/containers/other/json":
		_, _ = io.WriteString(w, `{"Id":"bb22","Config":{"Entrypoint":["x"]},"NetworkSettings":{"IPAddress":"172.17.0.3"}}`)
	case p == "/exec/e/json":
		_, _ = io.WriteString(w, `{"ID":"e","Container":{"Id":"aa11","NetworkSettings":{}}}`)
	case strings.HasSuffix(p, "/exec"):
		d.execs = append(d.execs, string(body))
		w.WriteHeader(http.StatusCreated)
	case strings.HasSuffix(p, "/kill"):
		d.killed = append(d.killed, p)
		w.WriteHeader(http.StatusNoContent)
	case p == "/containers/runs/start":
		w.WriteHeader(http.StatusNotModified)
	case p == "/containers/none/start":
		http.Error(w, `{"message":"No such container: none"}`, http.StatusNotFound)
	case strings.HasSuffix(p, "/start"), strings.HasSuffix(p, "/restart"):
		d.started++
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

func post(t *testing.T, socket, target, body string) (int, string) {
	t.Helper()
	resp, err := clientOf(socket).Post("http://docker"+target, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestCreateCall(t *testing.T) {
	d := &fakeDocker{}
	socket := run(t, settings(t), engineOf(t, d))
	code, _ := post(t, socket, "/v1.41/containers/create?name=web", `{"Image":"reg.example:5000/a/web:1"}`)
	if code != 201 || len(d.created) != 1 {
		t.Fatal(code, d.created)
	}
	var got struct {
		Entrypoint, Cmd      []string
		Hostname, Domainname string
	}
	if err := json.Unmarshal([]byte(d.created[0]), &got); err != nil {
		t.Fatal(err)
	}
	if strings.Join(got.Entrypoint, " ") != "/w/w /entry" || strings.Join(got.Cmd, " ") != "serve" || got.Hostname != "web" || got.Domainname != "weave.local" {
		t.Errorf("%+v", got)
	}
	for _, tt := range []struct {
		target, body string
		code         int
		text         string
	}{
		{"/v1.41/containers/create", `{"Image":"absent:7"}`, 404, `{"message":"No such image: absent:7"}` + "\n"},
		{"/v1.20/containers/create", `{"Image":"absent:7"}`, 404, "No such image: absent:7\n"},
		{"/containers/create", `{"Image":"broken"}`, 507, `{"message":"the disk is on fire"}` + "\n"},
	} {
		if code, text := post(t, socket, tt.target, tt.body); code != tt.code || text != tt.text {
			t.Errorf("%s %s: %d %q", tt.target, tt.body, code, text)
		}
	}
	if len(d.created) != 1 {
		t.Error("the engine was asked in spite of that")
	}
	for _, body := range []string{
		`{"Image":"absent","HostConfig":{"NetworkMode":"host"}}`, `{"Image":"absent","HostConfig":{"NetworkMode":"container:x"}}`,
		`{"Image":"absent","Env":["WEAVE_CIDR=none"]}`, `{"Image":"reg.example:5000/a/web:1","HostConfig":{"NetworkMode":"mynet"}} `, `nonsense`, `[]`, `null`,
		`{"Image":7}`, `{"Image":"absent","HostConfig":7}`,
	} {
		if code, _ := post(t, socket, "/containers/create", body); code != 201 || d.created[len(d.created)-1] != body {
			t.Errorf("%s became %s", body, d.created[len(d.created)-1])
		}
	}
}

func TestStartWaits(t *testing.T) {
	d, n := &fakeDocker{}, &network{}
	cfg := settings(t)
	cfg.Network = n
	release := make(chan error)
	n.attach = func(ctx context.Context, ref string) error {
		select {
		case err := <-release:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	socket := run(t, cfg, engineOf(t, d))
	for _, verb := range []string{"/v1.41/containers/mine/start", "/containers/mine/restart?t=0"} {
		answered := make(chan int, 1)
		go func() {
			code, _ := post(t, socket, verb, "")
			answered <- code
		}()
		release <- nil // somebody waits
		if code := <-answered; code != 204 {
			t.Errorf("%s: %d", verb, code)
		}
	}
	// failure
	answered := make(chan string, 1)
	for _, c := range []struct {
		name  string
		kills int
	}{{"mine", 1}, {"runs", 1}} {
		go func() {
			code, text := post(t, socket, "/v1.41/containers/"+c.name+"/start", "")
			answered <- fmt.Sprint(code, text)
		}()
		release <- errors.New("no address is free")
		if text := <-answered; text != `500{"message":"weave cannot attach container `+c.name+`: no address is free"}`+"\n" {
			t.Errorf("%s", text)
		}
		if len(d.killed) != c.kills {
			t.Errorf("killed: %q", d.killed)
		}
	}
	// no wait for what did not start
	if code, text := post(t, socket, "/v1.41/containers/none/start", ""); code != 404 || !strings.Contains(text, "No such container: none") {
		t.Errorf("%d %s", code, text)
	}
}

func TestStartLimit(t *testing.T) {
	d, n := &fakeDocker{}, &network{}
	cfg := settings(t)
	cfg.Network, cfg.AttachLimit = n, time.Millisecond
	n.attach = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
	socket := run(t, cfg, engineOf(t, d))
	code, text := post(t, socket, "/containers/mine/start", "")
	if code != 500 || !strings.Contains(text, "longer than 1ms") || len(d.killed) != 1 {
		t.Errorf("%d %s %q", code, text, d.killed)
	}
}

// TestStartAbandoned: a client that goes while it waits ends the wait, and its container lives on.
func TestStartAbandoned(t *testing.T) {
	d, n := &fakeDocker{}, &network{}
	cfg := settings(t)
	cfg.Network = n
	waiting, ended := make(chan struct{}), make(chan struct{})
	n.attach = func(ctx context.Context, _ string) error {
		close(waiting)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}
	client := dial(t, run(t, cfg, engineOf(t, d)))
	say(t, client, "POST /containers/mine/start HTTP/1.1\r\nHost: x\r\n\r\n")
	<-waiting
	client.Close()
	<-ended
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.killed) > 0 {
		t.Error("it was killed")
	}
}

func TestExecCall(t *testing.T) {
	d := &fakeDocker{}
	socket := run(t, settings(t), engineOf(t, d))
	for _, tt := range []struct{ name, in, want string }{
		{"mine", `{"Cmd":["ls"],"Big":12345678901234567890}`, `{"Big":12345678901234567890,"Cmd":["/w/w","ls"],"Env":["WEAVE_EXEC=1"]}`},
		{"mine", `{"Env":["A=1"],"cmd":"ls <>"}`, `{"Env":["A=1","WEAVE_EXEC=1"],"cmd":["/w/w","ls <>"]}`},
		{"mine", `{"Cmd":["/w/w","ls"]}`, `{"Cmd":["/w/w","ls"]}`},
		{"other", `{"Cmd": ["ls"]}`, `{"Cmd": ["ls"]}`},
		{"absent", `{"Cmd": ["ls"]}`, `{"Cmd": ["ls"]}`},
		{"mine", `{"Cmd": []}`, `{"Cmd": []}`},
		{"mine", `?`, `?`},
	} {
		post(t, socket, "/v1.41/containers/"+tt.name+"/exec", tt.in)
		if got := d.execs[len(d.execs)-1]; got != tt.want {
			t.Errorf("%s %s: got %s", tt.name, tt.in, got)
		}
	}
}

func TestInspectCall(t *testing.T) {
	cfg := settings(t)
	cfg.RewriteInspect = true
	client := clientOf(run(t, cfg, engineOf(t, &fakeDocker{})))
	for target, want := range map[string]string{
		"/containers/mine/json":   `"NetworkSettings":{"Big":12345678901234567890,"GlobalIPv6Address":"fd00::1","GlobalIPv6PrefixLen":108,"IPAddress":"10.32.0.1","IPPrefixLen":12,"MacAddress":"02:00:00:00:00:01","Ports":{}}}`,
		"/containers/other/json":  `"NetworkSettings":{"IPAddress":"172.17.0.3"}}`,
		"/v1.18/exec/e/json":      `{"Container":{"Id":"aa11","NetworkSettings":{"GlobalIPv6Address":"fd00::1","GlobalIPv6PrefixLen":108,"IPAddress":"10.32.0.1","IPPrefixLen":12,"MacAddress":"02:00:00:00:00:01"}},"ID":"e"}`,
		"/containers/absent/json": "404 page not found\n",
	} {
		resp, err := client.Get("http://docker" + target)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.HasSuffix(body, []byte(want)) {
			t.Errorf("%s: %v\n%s", target, err, body)
		}
	}
}
