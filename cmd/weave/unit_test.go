package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"weave/internal/node"
)

func TestSortArgs(t *testing.T) {
	known := []cli.Flag{&cli.BoolFlag{Name: "b"}, &cli.StringFlag{Name: "s", Aliases: []string{"alias"}}}
	for _, c := range []struct{ in, flags, rest string }{
		{"x --s v y -b z", "--s v -b", "x y z"},
		{"x --s=v y", "--s=v", "x y"},
		{"--b=false x", "--b=false", "x"},
		{"x -s --b", "-s --b", "x"},
		{"x -alias v", "-alias v", "x"},
		{"x --unknown y", "--unknown", "x y"},
		{"x -- --s v", "", "x --s v"},
		{"- x", "", "- x"},
	} {
		flags, rest, err := sortArgs(known, strings.Fields(c.in))
		if err != nil || strings.Join(flags, " ") != c.flags || strings.Join(rest, " ") != c.rest {
			t.Errorf("%q: %q, %q, %v", c.in, flags, rest, err)
		}
	}
	if _, _, err := sortArgs(known, []string{"x", "-s"}); err == nil {
		t.Error("a flag without its value")
	}
}

func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "::1": "00:00:00:00:00:01", "8A:3E:3e:3e:3e:3e": "8a:3e:3e:3e:3e:3e", "2::": "02:00:00:00:00:00",
		"8a:3e::1": "8a:3e:00:00:00:01", "8:3:3:3:3:3": "08:03:03:03:03:03",
	} {
		if got, err := parseName(in); got != want || err != nil {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"x", "::", "1:2:3:4:5", "2:2:3:4:5:6:7", "2:2:3::4:5:6", "2::3::4", "00:00:00:00:00:00", "01::1", "100::1", "2:2:3:4:5:+6",
		":2:3:4:5:6", "2:2:3:4:5:", "8a-3e-3e-3e-3e-3e", ":::1",
	} {
		if got, err := parseName(in); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, seed := range []string{"::1", "8a:3e:3e:3e:3e:3e", "2::", ":::", "2::3::4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		name, err := parseName(in)
		if err != nil || name == "" {
			return
		}
		if again, err := parseName(name); again != name || err != nil {
			t.Errorf("%q: %q, then %q, %v", in, name, again, err)
		}
	})
}

func TestDirs(t *testing.T) {
	env := map[string]string{"HOME": "/home/u"}
	getenv := func(name string) string { return env[name] }
	check := func(uid int, state, run string) {
		t.Helper()
		got, err := findState(getenv, uid)
		if err != nil || got != state {
			t.Errorf("state %q, %v; want %q", got, err, state)
		}
		if got := findRun(getenv, uid, state); got != run {
			t.Errorf("run %q; want %q", got, run)
		}
	}
	const nobody = 987654321 // has no /run/user
	check(0, "/var/lib/weave", "/run/weave")
	check(nobody, "/home/u/.local/state/weave", "/home/u/.local/state/weave/run")
	env["XDG_STATE_HOME"], env["XDG_RUNTIME_DIR"] = "relative", "relative" // to be ignored, says the specification
	check(nobody, "/home/u/.local/state/weave", "/home/u/.local/state/weave/run")
	env["XDG_STATE_HOME"], env["XDG_RUNTIME_DIR"] = "/s", "/r"
	check(nobody, "/s/weave", "/r/weave")
	env["WEAVE_STATE_DIR"], env["WEAVE_RUN_DIR"] = "/a", "/b"
	check(0, "/a", "/b")
	check(nobody, "/a", "/b")
	if _, err := findState(func(string) string { return "" }, nobody); err == nil {
		t.Error("state without a home")
	}
}

func TestAbsoluteTarget(t *testing.T) {
	own := fmt.Sprintf("/proc/%d/", os.Getpid())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"c1": "c1", "1234": "1234", "/run/netns/c1": "/run/netns/c1", "./c1": here + "/c1",
		"/proc/self/ns/net": own + "ns/net", "/proc/thread-self/ns/net": own + "ns/net",
	} {
		if got, err := absoluteTarget(in); got != want || err != nil {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// The daemon's command line says everything but the password, and means the same when it is read again.
func TestArguments(t *testing.T) {
	t.Setenv("WEAVE_PASSWORD", "")
	want := options{
		level: "debug", noRestart: true, names: node.NameFlags{Off: true},
		proxy:   node.ProxyFlags{ContainerFlags: node.ContainerFlags{Match: "x", RewriteInspect: true, WithoutDNS: true}, Listen: []string{"tcp://:1"}},
		engines: node.EngineFlags{Runtime: "none", Docker: "unix:///d", Podman: "unix:///p"},
		node: node.Config{
			Name: "8a:3e:3e:3e:3e:3e", Nickname: "host1", Port: 7000, Peers: []string{"a", "b:1"}, NoDiscovery: true,
			ConnLimit: 3, MTU: 1400, FastEncryption: node.EncryptWireGuard, Tap: "water", Paths: node.Paths{State: "/s", Run: "/r"}, Listeners: node.Listeners{Status: "/x"},
		},
	}
	secret := want
	secret.node.Passwords = []string{"secret"}
	line := secret.arguments()
	if strings.Contains(strings.Join(line, " "), "secret") {
		t.Fatalf("password in %q", line)
	}
	var got options
	app := &cli.App{Commands: []*cli.Command{{Name: "launch", Flags: launchFlags(), Action: func(c *cli.Context) (err error) {
		got, err = readOptions(c, dirs{state: "/s", run: "/r"})
		return err
	}}}}
	if err := app.Run(append([]string{"weave"}, line...)); err != nil {
		t.Fatal(err)
	}
	got.node.Engines, got.node.Proxy = node.EngineConfig{}, node.ProxyConfig{} // made of flags that are compared
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestPasswordSources(t *testing.T) {
	read := func(args ...string) (got string) {
		app := &cli.App{Flags: launchFlags(), Action: func(c *cli.Context) error {
			opts, err := readOptions(c, dirs{})
			got = strings.Join(opts.node.Passwords, "|")
			return err
		}}
		if err := app.Run(append([]string{"weave"}, args...)); err != nil {
			t.Fatal(err)
		}
		return got
	}
	t.Setenv("WEAVE_PASSWORD", "env")
	if got := read(); got != "env" {
		t.Errorf("from the environment: %q", got)
	}
	if got := read("--password", "flag"); got != "flag" {
		t.Errorf("the flag wins: %q", got)
	}
}

func TestLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weave.log")
	const limit = 1000
	log, err := openLog(path, limit, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		if _, err := fmt.Fprintf(log, "line %03d\n", i); err != nil {
			t.Fatal(err)
		}
		if i == 250 { // a new daemon goes on with the file it finds
			log.Close()
			if log, err = openLog(path, limit, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	log.Close()
	old, _ := os.ReadFile(path + ".1")
	current, _ := os.ReadFile(path)
	if len(old) > limit || len(current) > limit {
		t.Errorf("%d and %d bytes", len(old), len(current))
	}
	all := string(old) + string(current)
	var want strings.Builder
	for i := 500 - strings.Count(all, "\n"); i < 500; i++ {
		fmt.Fprintf(&want, "line %03d\n", i)
	}
	if diff := cmp.Diff(want.String(), all); diff != "" || len(old) == 0 {
		t.Errorf("lines lost: %s", diff)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got := tail(path, 0); got != "" {
		t.Errorf("no file: %q", got)
	}
	var b strings.Builder
	for i := range 30 {
		fmt.Fprintf(&b, "%d\n", i)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tail(path, 0); !strings.HasPrefix(got, "10\n") || !strings.HasSuffix(got, "29\n") {
		t.Errorf("last lines: %q", got)
	}
	if got := tail(path, int64(b.Len())-3); got != "29\n" {
		t.Errorf("from an offset: %q", got)
	}
	if got := tail(path, 1<<40); !strings.HasSuffix(got, "29\n") {
		t.Errorf("rotated: %q", got)
	}
}
