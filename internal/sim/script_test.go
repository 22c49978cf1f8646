package sim_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weave/internal/sim"
)

var update = flag.Bool("update", false, "rewrite the scripts with what they print")

// TestScripts plays testdata/*.txt; a new bug report is one more file.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := sim.Play(string(raw))
			if err != nil {
				t.Fatalf("%s\n%v", got, err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(raw) {
				t.Errorf("what was printed:\n%s\nthe difference (-file +printed):\n%s", got, cmp.Diff(string(raw), got))
			}
		})
	}
}

func TestScriptsThatCannotBePlayed(t *testing.T) {
	for _, text := range []string{
		"at 5s", "nodes a a", "nodes a\nfly a", "nodes a\nstart b", "nodes a\nwait 1s happiness", "nodes a\nat yesterday",
		"nodes a\nkill a", "nodes a\nshow a", "nodes a b\nstart a\ncut a", "nodes a\nseed 3", "nodes a\nat 5s\nat 3s",
	} {
		if out, err := sim.Play(text); err == nil {
			t.Errorf("played:\n%s", out)
		}
	}
}
