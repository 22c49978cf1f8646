// Package internal holds no code; its test keeps the arrows of ARCHITECTURE.md.
package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// room says what a package may import of ours, and whether it is a core.
type room struct {
	pure  bool
	knows []string // what this core may know although cores may not
	may   []string // packages of this module
	tests []string // those that only its tests may know
	above string   // why it may no more
}

const (
	coreReason = "a core decides from its arguments alone, so that it can be simulated, replayed and fuzzed"
	edgeReason = "an edge knows the core in its own folder; only internal/node joins rooms"
)

// engineSuite is what the one test of the edges to engines needs.
var engineSuite = []string{"netns-tests/lab", "runtime", "runtime/docker", "runtime/podman", "runtime/enginetest"}

// rooms lists every package that other packages may be built on. A package
// that is missing here fails the test: say first where it belongs.
var rooms = map[string]room{
	"stack":               {pure: true, above: coreReason},
	"stack/filter":        {pure: true, above: coreReason},
	"stack/host":          {may: []string{"stack"}, above: edgeReason},
	"peer/wire":           {pure: true, above: coreReason},
	"peer/session":        {pure: true, may: []string{"peer/wire", "peer/session/gcm"}, above: coreReason},
	"peer/session/gcm":    {pure: true, above: coreReason},
	"peer":                {pure: true, may: []string{"peer/wire"}, above: coreReason},
	"ipam":                {pure: true, may: []string{"peer"}, above: coreReason + "; of peers it knows the name"},
	"dns":                 {pure: true, may: []string{"peer"}, above: coreReason + "; of peers it knows the name"},
	"dns/server":          {may: []string{"dns"}, above: edgeReason},
	"policy":              {pure: true, may: []string{"peer"}, above: coreReason + "; of peers it knows the name"},
	"runtime":             {pure: true, knows: []string{"context"}, above: coreReason + "; context stands in the signatures of Engine"},
	"runtime/docker":      {may: []string{"runtime", "runtime/enginelist"}, tests: []string{"runtime/enginetest"}, above: edgeReason},
	"runtime/podman":      {may: []string{"runtime", "runtime/enginelist"}, tests: []string{"runtime/enginetest"}, above: edgeReason},
	"runtime/enginelist":  {may: []string{"runtime"}, above: "what edges to engines have in common"},
	"runtime/proxy":       {may: []string{"runtime"}, above: edgeReason},
	"runtime/shim":        {may: []string{"runtime"}, above: edgeReason},
	"runtime/rootless":    {may: []string{"runtime"}, above: edgeReason},
	"runtime/enginetest":  {may: []string{"runtime"}, above: "the tests that every engine passes"},
	"tun":                 {above: edgeReason},
	"tun/tuntest":         {may: []string{"tun"}, above: edgeReason},
	"peer/link":           {may: []string{"peer/wire"}, above: edgeReason},
	"peer/control":        {may: []string{"peer/wire"}, above: edgeReason},
	"runtime/netlink":     {may: []string{"runtime"}, above: edgeReason},
	"internal/api":        {above: edgeReason},
	"internal/store":      {above: edgeReason},
	"internal/sim":        {may: []string{"peer", "peer/wire", "peer/session"}, above: "the simulation drives cores only"},
	"internal/sim/report": {may: []string{"internal/sim", "peer"}, above: "it measures the simulation only"},
	"internal/node":       {may: []string{"*"}, above: "the one place that joins rooms"},
	"cmd/weave":           {may: []string{"internal/api", "internal/node", "runtime/shim"}, above: "the command line makes one API call or runs the node"},
	"internal":            {},
	"netns-tests":         {may: engineSuite, above: "tests use the built binary as a user does; engines' edges are tested on the lab's engines"},
	"netns-tests/lab":     {above: "the harness must build hosts without the code it tests"},
	"netns-tests/demo":    {may: []string{"netns-tests/lab"}, above: "the demo uses the built binary as a user does"},
	"netns-tests/soak":    {may: []string{"netns-tests/lab"}, above: "the soak uses the built binary as a user does"},
	"netns-tests/vm":      {above: "the harness of guests boots what it is given"},
	"netns-tests/vm/guest": {
		may:   []string{"netns-tests/lab", "runtime", "runtime/netlink"},
		above: "the edge to the kernel and the built binary are tested on a kernel with IPsec and WireGuard",
	},
	"bench":               {may: []string{"netns-tests/lab"}, above: "the bench measures the built binary"},
	"bench/wireguard":     {above: "a contender of the bench"},
	"bench/relay":         {may: []string{"netns-tests/lab"}, above: "the wire of the bench; its test has a lab"},
	"scripts/testsummary": {above: "a filter of go test's output"},
}

// bannedInCores lists what a core must not know, by import path, with the reason.
var bannedInCores = map[string]string{
	"os": "files and processes", "os/exec": "processes", "net/http": "sockets",
	"syscall": "the kernel", "golang.org/x/sys/unix": "the kernel", "log": "loggers", "log/slog": "loggers",
	"golang.org/x/sync/errgroup": "goroutines",
	"context":                    "cancellation belongs to goroutines, and a core has none", "crypto/rand": "randomness is an argument",
	"github.com/vishvananda/netlink": "the kernel", "go.etcd.io/bbolt": "files",
}

// bannedCalls are selectors that read the clock or start timers.
var bannedCalls = map[string]bool{
	"time.Now": true, "time.Sleep": true, "time.After": true, "time.NewTimer": true,
	"time.NewTicker": true, "time.AfterFunc": true, "time.Since": true, "time.Until": true, "time.Tick": true,
}

// pureOfNet are the names of package net that only look at their arguments.
var pureOfNet = map[string]bool{
	"SplitHostPort": true, "JoinHostPort": true, "HardwareAddr": true, "ParseMAC": true,
}

const module = "weave/"

func TestArrows(t *testing.T) {
	fset := token.NewFileSet()
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, ".pb.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel("..", p)
		checkFile(t, fset, filepath.ToSlash(rel), f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkFile(t *testing.T, fset *token.FileSet, file string, f *ast.File) {
	t.Helper()
	pkg := path.Dir(file)
	r, known := rooms[pkg]
	if !known {
		t.Errorf("%s: package %s is in no room; add it to the table in internal/arch_test.go", file, pkg)
		return
	}
	test := strings.HasSuffix(file, "_test.go")
	for _, imp := range f.Imports {
		name, _ := strconv.Unquote(imp.Path.Value)
		checkImport(t, file, pkg, name, r, test)
	}
	if test {
		return
	}
	ast.Inspect(f, func(n ast.Node) bool {
		checkNode(t, fset, r, n)
		return true
	})
}

func checkImport(t *testing.T, file, pkg, name string, r room, test bool) {
	t.Helper()
	if ours, ok := strings.CutPrefix(name, module); ok && !allowed(r.may, ours) {
		if !test || ours != pkg && !allowed(r.tests, ours) { // an external test imports its own package
			t.Errorf("%s imports %s: %s", file, name, r.above)
		}
	}
	if why, banned := bannedInCores[name]; r.pure && !test && banned && !slices.Contains(r.knows, name) {
		t.Errorf("%s imports %s: a core does not know %s", file, name, why)
	}
}

func allowed(may []string, pkg string) bool {
	for _, m := range may {
		if m == "*" || m == pkg {
			return true
		}
	}
	return false
}

func checkNode(t *testing.T, fset *token.FileSet, r room, n ast.Node) {
	t.Helper()
	switch n := n.(type) {
	case *ast.FuncDecl:
		if n.Name.Name == "init" && n.Recv == nil {
			t.Errorf("%s: init functions hide what runs when; call it from where it is needed", fset.Position(n.Pos()))
		}
	case *ast.GoStmt:
		if r.pure {
			t.Errorf("%s: a core starts no goroutine", fset.Position(n.Pos()))
		}
	case *ast.SelectorExpr:
		x, ok := n.X.(*ast.Ident)
		if !ok || !r.pure {
			return
		}
		if bannedCalls[x.Name+"."+n.Sel.Name] {
			t.Errorf("%s: %s.%s: time is an argument of a core", fset.Position(n.Pos()), x.Name, n.Sel.Name)
		}
		if x.Name == "net" && !pureOfNet[n.Sel.Name] {
			t.Errorf("%s: net.%s: a core does not know sockets", fset.Position(n.Pos()), n.Sel.Name)
		}
	}
}
