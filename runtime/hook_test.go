package runtime_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"weave/runtime"
)

const (
	hookState = `{"ociVersion":"1.0.2-dev","id":"49db","status":"creating","pid":54,"bundle":"/b",
		"annotations":{"weave":"true","io.podman.annotations.autoremove":"TRUE"}}`
	hookConfig = `{"ociVersion":"1.0.2-dev","hostname":"web","root":{"path":"/merged"},"process":{"env":["A=1","WEAVE_CIDR=net:default"]},
		"mounts":[{"destination":"/etc/hosts","type":"bind","source":"/run/hosts"},{"destination":"/etc/resolv.conf","source":"/run/resolv.conf"},{"destination":"/proc","source":"proc"}],
		"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/x"}]}}`
)

func TestParseHook(t *testing.T) {
	got, err := runtime.ParseHook([]byte(hookState), []byte(hookConfig), "web", map[string]string{"weave.name": "www"})
	if err != nil {
		t.Fatal(err)
	}
	want := runtime.Hook{AutoRemove: true, Root: "/merged", Container: runtime.Container{
		ID: "49db", Name: "web", Running: true, PID: 54, Hostname: "web", Env: []string{"A=1", "WEAVE_CIDR=net:default"},
		Labels:      map[string]string{"weave": "true", "weave.name": "www", runtime.AnnotationAutoRemove: "TRUE"},
		NetworkMode: "default", Sandbox: "/run/netns/x", HostsPath: "/run/hosts", ResolvPath: "/run/resolv.conf",
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	host, err := runtime.ParseHook([]byte(hookState), []byte(`{"linux":{"namespaces":[{"type":"pid"}]}}`), "", nil)
	if err != nil || !host.Container.OnHost() || host.Container.Name != "49db" {
		t.Errorf("without a network namespace: %+v, %v", host, err)
	}
}

func FuzzParseHook(f *testing.F) {
	f.Add([]byte(hookState), []byte(hookConfig))
	f.Add([]byte(`{}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, state, config []byte) {
		h, err := runtime.ParseHook(state, config, "n", nil)
		if err == nil && h.Container.ID == "" {
			t.Error("a container without an id")
		}
	})
}
