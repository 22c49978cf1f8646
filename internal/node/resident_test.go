package node

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestMappings(t *testing.T) {
	var all []mapping
	for line := range strings.Lines(`00400000-00ee5000 r-xp 00000000 fe:00 1234                       /usr/bin/we ave
Size:              11156 kB
Anonymous:             4 kB
7ffd1000-7ffd2000 rw-p 00000000 00:00 0
Anonymous:            12 kB
VmFlags: rd wr mr mw
`) {
		all = addMapping(all, line)
	}
	want := []mapping{
		{from: 0x400000, to: 0xee5000, file: "/usr/bin/we ave", anonymous: 4},
		{from: 0x7ffd1000, to: 0x7ffd2000, writable: true, anonymous: 12},
	}
	if !slices.Equal(all, want) {
		t.Errorf("read as %+v", all)
	}
}

// The program goes on without its pages, and has fewer.
func TestUnmapProgram(t *testing.T) {
	resident := func() int {
		b, err := os.ReadFile("/proc/self/status")
		must(t, err)
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "RssFile:"); ok {
				kib, err := strconv.Atoi(strings.Fields(rest)[0])
				must(t, err)
				return kib
			}
		}
		t.Fatal("no RssFile")
		return 0
	}
	program, err := os.Readlink("/proc/self/exe")
	must(t, err)
	if !slices.ContainsFunc(mappings(), func(m mapping) bool { return m.file == program && !m.writable }) {
		t.Fatal("the program is nowhere")
	}
	before := resident()
	unmapProgram()
	if after := resident(); after >= before {
		t.Errorf("%d KiB became %d", before, after)
	}
}
