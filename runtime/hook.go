package runtime

import (
	"encoding/json"
	"fmt"
	"maps"
)

// AnnotationAutoRemove is set by Podman on containers that go when they end (podman-run(1), --rm).
const AnnotationAutoRemove = "io.podman.annotations.autoremove"

// Hook is what an OCI runtime tells a hook (runtime-spec, "State" and "POSIX-platform Hooks").
type Hook struct {
	Container  Container // Running is false after the container ended
	AutoRemove bool      // it will not start again
	Root       string    // the host's directory that is its root
}

// ParseHook reads a runtime's state, the bundle's config.json, and the labels, which neither has: the engine keeps them.
// Annotations count as labels too, after those. Of config.json only what is needed is looked at.
func ParseHook(state, config []byte, name string, labels map[string]string) (Hook, error) {
	var st struct {
		ID          string            `json:"id"`
		Status      string            `json:"status"`
		PID         int               `json:"pid"`
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(state, &st); err != nil {
		return Hook{}, fmt.Errorf("read the runtime's state: %w", err)
	}
	if st.ID == "" {
		return Hook{}, fmt.Errorf("read the runtime's state: it has no id")
	}
	var cfg struct {
		Hostname string `json:"hostname"`
		Root     struct {
			Path string `json:"path"`
		} `json:"root"`
		Process struct {
			Env []string `json:"env"`
		} `json:"process"`
		Mounts []struct {
			Destination string `json:"destination"`
			Source      string `json:"source"`
		} `json:"mounts"`
		Linux struct {
			Namespaces []struct {
				Type string `json:"type"`
				Path string `json:"path"`
			} `json:"namespaces"`
		} `json:"linux"`
	}
	if err := json.Unmarshal(config, &cfg); err != nil {
		return Hook{}, fmt.Errorf("read the bundle's config.json: %w", err)
	}
	c := Container{
		ID: st.ID, Name: name, Running: st.PID > 0 && st.Status != "stopped", PID: st.PID, Hostname: cfg.Hostname, Env: cfg.Process.Env,
		Labels: map[string]string{}, NetworkMode: "host",
	}
	if c.Name == "" {
		c.Name = st.ID
	}
	maps.Copy(c.Labels, st.Annotations)
	maps.Copy(c.Labels, labels)
	for _, m := range cfg.Mounts {
		switch m.Destination {
		case "/etc/hosts":
			c.HostsPath = m.Source
		case "/etc/resolv.conf":
			c.ResolvPath = m.Source
		}
	}
	for _, ns := range cfg.Linux.Namespaces {
		if ns.Type == "network" {
			c.NetworkMode, c.Sandbox = "default", ns.Path
		}
	}
	return Hook{Container: c, AutoRemove: st.Annotations[AnnotationAutoRemove] == "TRUE", Root: cfg.Root.Path}, nil
}
