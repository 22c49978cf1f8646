package netnstests

import (
	"fmt"
	"strings"
	"testing"

	"weave/netns-tests/lab"
	"weave/runtime"
	"weave/runtime/docker"
	"weave/runtime/enginetest"
	"weave/runtime/podman"
)

// TestEngines tests the edges to engines on real ones, without weave's daemon.
func TestEngines(t *testing.T) {
	t.Run("docker", func(t *testing.T) {
		needs(t, "dockerd", "docker", "busybox")
		m := machines(t, 1)[0]
		must(t, m.StartDocker(), m.Import("docker", lab.ImageName, `CMD ["sh","-c","sleep 1000"]`))
		rig := engineRig(m, "docker", 12)
		rig.Domain = true
		rig.Start = func() error { return m.StartDocker() }
		rig.Stop, rig.Crash, rig.Pause = m.StopDocker, m.KillDocker, m.PauseDocker
		throughDocker(&rig, m.DockerSocket)
		enginetest.Run(t, rig)
	})
	t.Run("podman", func(t *testing.T) {
		rig, m := podmanRig(t, 12)
		open := func() (*podman.Engine, error) { return podman.Open("podman", "unix://"+m.PodmanSocket()) }
		if _, err := open(); err != nil && strings.Contains(err.Error(), "built without") {
			t.Skip(err)
		}
		rig.Open = func() (runtime.Engine, error) { return open() }
		rig.Close = func(e runtime.Engine) { e.(*podman.Engine).Close() }
		enginetest.Run(t, rig)
	})
	t.Run("podman's Docker API", func(t *testing.T) {
		rig, m := podmanRig(t, 5)
		throughDocker(&rig, m.PodmanSocket)
		enginetest.Run(t, rig)
	})
}

func engineRig(m *lab.Machine, command string, crowd int) enginetest.Rig {
	host := func(argv ...string) (string, error) {
		r := m.Run(argv...)
		out := strings.TrimSpace(r.Stdout)
		if r.Err != nil || r.RC != 0 {
			return out, fmt.Errorf("%v", r)
		}
		return out, nil
	}
	return enginetest.Rig{
		Command: command, Image: lab.ImageName, Crowd: crowd, Host: host,
		Network: func(name string) ([]string, error) {
			_, err := host(command, "network", "create", name)
			return []string{"--net", name, "--network-alias", "al"}, err
		},
	}
}

// podmanRig lacks only how to open the engine.
func podmanRig(t *testing.T, crowd int) (enginetest.Rig, *lab.Machine) {
	t.Helper()
	needs(t, "podman", "runc", "busybox")
	m := machines(t, 1)[0]
	must(t, m.StartPodman(), m.Import("podman", lab.ImageName, `CMD ["sh","-c","sleep 1000"]`))
	rig := engineRig(m, "podman", crowd)
	rig.Pods = true
	rig.Start, rig.Stop, rig.Crash, rig.Pause = m.StartPodman, m.StopPodman, m.KillPodman, m.PausePodman
	return rig, m
}

// throughDocker opens the engine by Docker's edge.
func throughDocker(rig *enginetest.Rig, socket func() string) {
	name := rig.Command
	rig.Open = func() (runtime.Engine, error) { return docker.Open(name, "unix://"+socket()) }
	rig.Close = func(e runtime.Engine) { e.(*docker.Engine).Close() }
}
