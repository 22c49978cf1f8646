package api

import "strings"

// Runtime describes the container engines.
type Runtime struct {
	Engines []Engine
}

// Engine is one of them.
type Engine struct {
	Name      string // "docker", "podman"
	Endpoint  string
	Connected bool
	Version   string // "" = it never answered
	Reason    string // why it is not connected
}

func renderRuntime(line func(label, value string), r *Runtime) {
	line("Service", "runtime")
	for _, e := range r.Engines {
		state := e.Version + " at " + e.Endpoint
		if !e.Connected {
			state = "not reachable at " + e.Endpoint + " (" + e.Reason + "), trying again"
		}
		line(strings.ToUpper(e.Name[:1])+e.Name[1:], state)
	}
}
