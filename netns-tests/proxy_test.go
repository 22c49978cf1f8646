package netnstests

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"weave/netns-tests/lab"
)

const proxySocket = "/run/weave/weave.sock"

// proxyDial connects to the proxy of a machine.
func proxyDial(t *testing.T, m *lab.Machine) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", m.ProxySocket())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(settle)))
	return c
}

// upgraded asks for a connection to become a stream, and reads the head of the answer.
func upgraded(t *testing.T, m *lab.Machine, request string) net.Conn {
	t.Helper()
	c := proxyDial(t, m)
	_, err := io.WriteString(c, request)
	must(t, err)
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		var b [1]byte
		_, err := io.ReadFull(c, b[:])
		must(t, err)
		head = append(head, b[0])
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 101 ") {
		t.Fatalf("got %q", head)
	}
	return c
}

// Every kind of stream that docker's API knows passes, in time and to its end.
func TestProxyStreams(t *testing.T) {
	m := dockers(t, 1)[0]
	good(t, m.Proxied("run", "-d", "-i", "--name", "echo", lab.ImageName, "cat"))
	t.Run("terminal", func(t *testing.T) {
		needs(t, "script")
		r := m.RunEnv(nil, "", "script", "-qec", "docker -H unix://"+proxySocket+" run --rm -it "+lab.ImageName+` sh -c "tty; stty size; exit 3"`, "/dev/null")
		if r.RC != 3 || !strings.Contains(r.Stdout, "/dev/pts/0") {
			t.Error(r)
		}
	})
	t.Run("attach", func(t *testing.T) {
		c := upgraded(t, m, "POST /containers/echo/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: \r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		for _, word := range []string{"one\n", "two\n"} {
			_, err := io.WriteString(c, word)
			must(t, err)
			got := make([]byte, 8+len(word)) // the header of a multiplexed stream
			_, err = io.ReadFull(c, got)
			must(t, err)
			if string(got[8:]) != word {
				t.Errorf("got %q", got)
			}
		}
	})
	t.Run("old attach, malformed host, no version", func(t *testing.T) {
		c := proxyDial(t, m)
		_, err := io.WriteString(c, "POST /containers/echo/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: /var/run/docker.sock\r\n\r\n")
		must(t, err)
		got := make([]byte, len("HTTP/1.1 200"))
		_, err = io.ReadFull(c, got)
		must(t, err)
		if string(got) != "HTTP/1.1 200" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("websocket", func(t *testing.T) {
		key := base64.StdEncoding.EncodeToString(make([]byte, 16))
		c := upgraded(t, m, "GET /containers/echo/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nOrigin: http://docker\r\n"+
			"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n\r\n")
		_, err := c.Write([]byte{0x81, 0x84, 0, 0, 0, 0, 'a', 'b', 'c', '\n'}) // a text frame with a mask of zeros
		must(t, err)
		got := make([]byte, 6)
		_, err = io.ReadFull(c, got)
		must(t, err)
		if string(got[2:]) != "abc\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("end of input", func(t *testing.T) {
		r := m.RunEnv(nil, strings.Repeat("x", 3<<20), "docker", "-H", "unix://"+proxySocket, "run", "--rm", "-i", lab.ImageName, "wc", "-c")
		if strings.TrimSpace(r.Stdout) != fmt.Sprint(3<<20) {
			t.Error(r)
		}
	})
	t.Run("follow", func(t *testing.T) { proxyFollows(t, m) })
	t.Run("copy", func(t *testing.T) {
		good(t, m.Run("sh", "-c", `head -c 20000000 /dev/urandom >/run/big && docker -H unix://`+proxySocket+` cp /run/big echo:/tmp/big &&
			docker -H unix://`+proxySocket+` cp echo:/tmp/big /run/back && cmp /run/big /run/back`))
	})
	t.Run("save and load", func(t *testing.T) {
		good(t, m.Run("sh", "-c", `d="docker -H unix://`+proxySocket+`"; $d save `+lab.ImageName+` >/run/i.tar && $d load </run/i.tar && $d import - again </run/i.tar`))
	})
}

// proxyFollows: what happens is shown when it happens, and the engine hears when nobody listens any more.
func proxyFollows(t *testing.T, m *lab.Machine) {
	c := proxyDial(t, m)
	_, err := io.WriteString(c, "GET /v1.41/events HTTP/1.1\r\nHost: docker\r\n\r\n")
	must(t, err)
	head := make([]byte, 15)
	_, err = io.ReadFull(c, head) // before there is any event
	must(t, err)
	if string(head) != "HTTP/1.1 200 OK" {
		t.Fatalf("got %q", head)
	}
	good(t, m.Proxied("run", "-d", "--name", "ticks", lab.ImageName, "sh", "-c", "echo first; sleep 1000"))
	var seen bytes.Buffer
	for !strings.Contains(seen.String(), `"status":"start"`) {
		b := make([]byte, 4096)
		n, err := c.Read(b)
		must(t, err)
		seen.Write(b[:n])
	}
	l := proxyDial(t, m)
	_, err = io.WriteString(l, "GET /v1.41/containers/ticks/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: docker\r\n\r\n")
	must(t, err)
	for seen.Reset(); !strings.Contains(seen.String(), "first\n"); {
		b := make([]byte, 4096)
		n, err := l.Read(b)
		must(t, err)
		seen.Write(b[:n])
	}
	c.Close()
	l.Close()
	good(t, m.Proxied("rm", "-f", "ticks"))
}

// What the proxy changes, as its flags say.
func TestProxyFlags(t *testing.T) {
	m := dockers(t, 1)[0]
	good(t, m.Weave("stop"))
	good(t, m.Weave("launch", "--rewrite-inspect", "--without-dns", "--no-default-ipalloc", "-H", "unix://"+proxySocket, "-H", "unix:///run/other/w.sock",
		"-H", "tcp://0.0.0.0:12375", "--no-multicast-route"))
	if got := good(t, m.Weave("report", "-f", "{{.Proxy.Addresses}}")); got != "[tcp://0.0.0.0:12375 unix:///run/other/w.sock unix:///run/weave/weave.sock]" {
		t.Errorf("addresses %s", got)
	}
	if got := good(t, m.RunEnv([]string{"PROXY_HOST=10.1.1.1", "DOCKER_HOST=unix:///x"}, "", append(weaveCommand(t, m), "env")...)); got != "export DOCKER_HOST=tcp://10.1.1.1:12375 ORIG_DOCKER_HOST=unix:///x" {
		t.Errorf("env: %s", got)
	}
	if got := good(t, m.Weave("config")); got != "-H=tcp://127.0.0.1:12375" {
		t.Errorf("config: %s", got)
	}
	good(t, m.Docker("-H", "tcp://127.0.0.1:12375", "run", "-d", "--name", "asks", "--net", "none", "-e", "WEAVE_CIDR=10.2.1.9/24", lab.ImageName))
	good(t, m.Docker("-H", "unix:///run/other/w.sock", "run", "-d", "--name", "silent", "--net", "none", lab.ImageName))
	const format = "{{.NetworkSettings.IPAddress}}/{{.NetworkSettings.IPPrefixLen}} {{.Config.Hostname}} {{.HostConfig.Dns}}"
	if got := good(t, m.Proxied("inspect", "-f", format, "asks")); !strings.HasPrefix(got, "10.2.1.9/24 ") || !strings.HasSuffix(got, " []") || strings.Contains(got, "asks") {
		t.Errorf("inspect: %s", got)
	}
	if got := good(t, m.Proxied("inspect", "-f", format, "silent")); !strings.HasPrefix(got, "/0 ") {
		t.Errorf("inspect: %s", got)
	}
	if got := good(t, m.Proxied("exec", "asks", "env")); strings.Contains(got, "WEAVE_EXEC") {
		t.Errorf("the mark is seen:\n%s", got)
	}
	good(t, m.Weave("detach", "10.2.1.9/24", "asks"))
	good(t, m.Proxied("exec", "asks", "true")) // which does not wait for what will not come
	good(t, m.Weave("attach", "10.2.1.9/24", "asks"))
	good(t, m.Proxied("restart", "-t", "0", "asks"))
	if got := shown(t, m, "asks"); !strings.HasSuffix(got, " 10.2.1.9/24") {
		t.Errorf("after a restart: %s", got)
	}
	if r := m.RunEnv([]string{"DOCKER_HOST=tcp://127.0.0.1:12375"}, "", append(weaveCommand(t, m), "stop")...); !strings.Contains(r.Stderr, "WARNING: It appears that your environment") {
		t.Error(r)
	}
}

// weaveCommand is what Machine.Weave runs.
func weaveCommand(t *testing.T, m *lab.Machine) []string {
	t.Helper()
	return m.Weave("version").Args[:1]
}

// Containers that start all at once are all attached, each with an address of its own.
func TestProxyCrowd(t *testing.T) {
	const crowd = 30
	m := dockers(t, 1)[0]
	var all sync.WaitGroup
	results := make([]lab.Result, crowd)
	for i := range results {
		all.Go(func() {
			results[i] = m.Proxied("run", "--rm", lab.ImageName, "sh", "-c", "ip -4 -o addr show ethwe; ip route show 224.0.0.0/4")
		})
	}
	all.Wait()
	addresses := map[string]bool{}
	for _, r := range results {
		f := strings.Fields(good(t, r))
		if len(f) < 4 || !strings.Contains(r.Stdout, "224.0.0.0/4 dev ethwe") {
			t.Fatal(r)
		}
		addresses[f[3]] = true
	}
	if len(addresses) < 2 { // they are free again as soon as a container ends
		t.Errorf("addresses %v", addresses)
	}
}

// docker-compose works as ever; services that say so are on the network.
func TestProxyCompose(t *testing.T) {
	needs(t, "docker-compose")
	m := dockers(t, 2)
	const file = `
version: "2.1"
services:
  web:
    image: ` + lab.ImageName + `
    container_name: web
    network_mode: none
    command: ["sh", "-c", "while :; do echo hello | nc -l -p 80; done"]
  client:
    image: ` + lab.ImageName + `
    network_mode: bridge
    depends_on: [web]
    command: ["nc", "-w", "5", "web.weave.local", "80"]
  own:
    image: ` + lab.ImageName + `
    network_mode: none
    environment: {WEAVE_CIDR: "none"}
    command: ["ip", "-o", "link"]
`
	compose := func(m *lab.Machine, args ...string) string {
		t.Helper()
		return good(t, m.RunEnv([]string{"DOCKER_HOST=unix://" + proxySocket}, file, append([]string{"docker-compose", "--no-ansi", "-p", "x", "-f", "-"}, args...)...))
	}
	compose(m[0], "up", "-d", "web")
	names(t, m[1], "web", address(t, m[0], "web"))
	if out := compose(m[1], "run", "--rm", "--no-deps", "-T", "own"); strings.Contains(out, "ethwe") {
		t.Errorf("own has %s", out)
	}
	file2 := strings.Replace(file, "network_mode: bridge", "network_mode: none", 1)
	r := m[1].RunEnv([]string{"DOCKER_HOST=unix://" + proxySocket}, file2, "docker-compose", "--no-ansi", "-p", "x", "-f", "-", "run", "--rm", "--no-deps", "-T", "client")
	if got := good(t, r); !strings.Contains(got, "hello") {
		t.Errorf("client has %s", got)
	}
	if out := compose(m[0], "ps"); !strings.Contains(out, "web") || !strings.Contains(out, "Up") {
		t.Errorf("ps: %s", out)
	}
	compose(m[0], "exec", "-T", "web", "true")
	compose(m[0], "restart", "-t", "0", "web")
	compose(m[0], "down", "-t", "0")
}

// Podman's own socket behind the proxy serves docker's client.
func TestProxyPodman(t *testing.T) {
	needs(t, "podman", "runc", "busybox", "docker")
	m := machines(t, 1)[0]
	must(t, m.StartPodman(), m.Import("podman", lab.ImageName, `CMD ["sh","-c","while sleep 1; do :; done"]`))
	good(t, m.Weave("launch", "--runtime=docker", "--docker-api=unix:///run/podman/podman.sock"))
	image := "localhost/" + lab.ImageName
	good(t, m.Proxied("run", "-d", "--name", "web", "--net", "none", image))
	names(t, m, "web", address(t, m, "web"))
	out := good(t, m.Proxied("run", "--rm", image, "sh", "-c", "ip -4 -o addr show ethwe; nslookup web.weave.local; cat /etc/resolv.conf"))
	if !strings.Contains(out, address(t, m, "web")) || !strings.Contains(out, "ethwe") {
		t.Errorf("a container has\n%s", out)
	}
	if r := m.Proxied("exec", "web", "sh", "-c", "echo out; env; exit 7"); r.RC != 7 || !strings.HasPrefix(r.Stdout, "out\n") || strings.Contains(r.Stdout, "WEAVE_EXEC") {
		t.Error(r)
	}
	r := m.RunEnv(nil, "some input", "docker", "-H", "unix://"+proxySocket, "run", "--rm", "-i", "--net", "none", image, "cat")
	if r.RC != 0 || r.Stdout != "some input" {
		t.Error(r)
	}
	had := shown(t, m, "web")
	good(t, m.Proxied("restart", "-t", "0", "web"))
	if got := shown(t, m, "web"); got != had {
		t.Errorf("%s became %s", had, got)
	}
	good(t, m.Proxied("logs", "web"))
	good(t, m.Proxied("rm", "-f", "web"))
}
