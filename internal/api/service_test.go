package api

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
)

func TestParseServiceID(t *testing.T) {
	for text, want := range map[string]ServiceID{
		"8080":               {Proto: "tcp", Port: 8080},
		"53/udp":             {Proto: "udp", Port: 53},
		"192.168.1.1:80":     {Proto: "tcp", Addr: netip.MustParseAddr("192.168.1.1"), Port: 80},
		"[fd00::1]:80/udp":   {Proto: "udp", Addr: netip.MustParseAddr("fd00::1"), Port: 80},
		"0.0.0.0:80":         {Proto: "tcp", Addr: netip.MustParseAddr("0.0.0.0"), Port: 80},
		"db":                 {Proto: "tcp", Name: "db"},
		"db:5432":            {Proto: "tcp", Name: "db", Port: 5432},
		"db.weave.local/udp": {Proto: "udp", Name: "db.weave.local"},
	} {
		id, err := ParseServiceID(text)
		if err != nil || id != want {
			t.Errorf("%s: %+v, %v", text, id, err)
		}
		again, err := ParseServiceID(id.String())
		if err != nil || again != id {
			t.Errorf("%s was written as %s: %+v, %v", text, id, again, err)
		}
	}
	for _, text := range []string{
		"", "/", "/udp", "0", "65536", "80/sctp", "80/tcp/udp", "10.1.1.1", "::1", "[::1]", "10.1.1.1:0", "[fe80::1%eth0]:80", "224.0.0.1:80",
		"db:", "db:0", "db:x", "d b", "-db", ":80", "db:80:80", "80:", "\x00",
	} {
		if id, err := ParseServiceID(text); err == nil {
			t.Errorf("%q is %+v", text, id)
		}
	}
}

func FuzzParseServiceID(f *testing.F) {
	for _, text := range []string{"8080", "[::1]:80/udp", "db:5432", "x/y"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseServiceID(text)
		if err != nil {
			return
		}
		if again, err := ParseServiceID(id.String()); err != nil || again != id {
			t.Errorf("%q was written as %q: %+v, %v", text, id, again, err)
		}
	})
}

func TestCheckServiceTarget(t *testing.T) {
	for _, good := range []string{"web:80", "10.2.1.1:80", "[fd00::1]:443", "a-b.weave.local:1"} {
		if err := CheckServiceTarget(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "web", ":80", "web:0", "web:http", "fd00::1:80", "w b:80", "web:80:80"} {
		if CheckServiceTarget(bad) == nil {
			t.Errorf("%q is taken for a target", bad)
		}
	}
}

// fakeServices keeps what it was told.
type fakeServices struct {
	*fakeNode
	list []PortService
}

func (f *fakeServices) AddService(_ context.Context, s PortService) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, s)
	return []string{"it does not answer"}, f.fault
}

func (f *fakeServices) BindService(_ context.Context, s PortService) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list[0] = s
	return nil, f.fault
}

func (f *fakeServices) RemoveService(_ context.Context, id ServiceID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = slices.DeleteFunc(f.list, func(s PortService) bool { return s.ServiceID == id })
	return f.fault
}

func (f *fakeServices) ListServices() []ServiceTarget {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []ServiceTarget
	for _, s := range f.list {
		for _, text := range s.Targets {
			out = append(out, ServiceTarget{Kind: "export", Proto: s.Proto, At: s.String(), Target: text, State: "up"})
		}
	}
	return out
}

func TestServices(t *testing.T) {
	f := &fakeServices{fakeNode: newFakeNode()}
	c, _ := serve(t, f.fakeNode, Backends{Reporter: f, Services: f})
	var warned []string
	c.Warn = func(text string) { warned = append(warned, text) }
	shows := func(want string) {
		t.Helper()
		if text, err := c.Services(t.Context()); err != nil || text != want {
			t.Errorf("%q, %v, want %q", text, err, want)
		}
	}
	shows("")
	if err := c.AddService(t.Context(), "8080", []string{"web:80", "10.2.1.1:81"}); err != nil || len(warned) != 1 {
		t.Error(err, warned)
	}
	shows("export tcp 8080 web:80 - up\nexport tcp 8080 10.2.1.1:81 - up\n")
	if err := c.BindService(t.Context(), "8080", []string{"[fd00::1]:80"}); err != nil {
		t.Error(err)
	}
	shows("export tcp 8080 [fd00::1]:80 - up\n")
	wantStatus(t, c.AddService(t.Context(), "8080", nil), 400, "target")
	wantStatus(t, c.AddService(t.Context(), "8080", []string{"web:80", "web:80"}), 400, "given twice")
	wantStatus(t, c.AddService(t.Context(), "8080", []string{"web"}), 400, `invalid target "web"`)
	wantStatus(t, c.AddService(t.Context(), "x y", []string{"web:80"}), 400, "invalid service")
	wantStatus(t, c.RemoveService(t.Context(), "x y"), 400, "invalid service")
	if err := c.RemoveService(t.Context(), "8080"); err != nil {
		t.Error(err)
	}
	shows("")
	f.setFault(errors.New("no room"))
	wantStatus(t, c.AddService(t.Context(), "8080", []string{"web:80"}), 500, "no room")
}
