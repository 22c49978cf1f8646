package main

import (
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"weave/internal/node"
)

// engineFlags are the flags of launch about container engines.
func engineFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "runtime", Value: "auto"},
		&cli.StringFlag{Name: "docker-api", Value: dockerEndpoint(os.Getenv)},
		&cli.StringFlag{Name: "podman-api"},
	}
}

// dockerEndpoint is where the Docker that the user works with listens. An environment that points at our own proxy
// says where it pointed before.
func dockerEndpoint(getenv func(string) string) string {
	endpoint := getenv("DOCKER_HOST")
	if strings.HasSuffix(endpoint, "/weave.sock") || strings.HasSuffix(endpoint, ":12375") {
		endpoint = getenv("ORIG_DOCKER_HOST")
	}
	if endpoint == "" {
		return node.DefaultDocker
	}
	return endpoint
}

func readEngineFlags(c *cli.Context) node.EngineFlags {
	return node.EngineFlags{Runtime: c.String("runtime"), Docker: c.String("docker-api"), Podman: c.String("podman-api")}
}

// engineArguments are the flags again, for the daemon's own processes.
func engineArguments(f node.EngineFlags) []string {
	return []string{"--runtime=" + f.Runtime, "--docker-api=" + f.Docker, "--podman-api=" + f.Podman}
}

// attachHostFlags are those of attach about a container's /etc/hosts.
func attachHostFlags() []cli.Flag {
	return []cli.Flag{&cli.BoolFlag{Name: "rewrite-hosts"}, &cli.StringSliceFlag{Name: "add-host"}}
}
