package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

func mustOpen(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestPutGetListDelete(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "weave.db")
	s := mustOpen(t, path)
	for key, value := range map[string]string{"peer/a": "1", "peer/b": "2", "peerless": "3", "attach/x": ""} {
		if err := s.Put(key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put("nil", nil); err != nil {
		t.Fatal(err)
	}
	if v, ok, err := s.Get("nil"); len(v) != 0 || !ok || err != nil {
		t.Errorf("an empty value: %q %v %v", v, ok, err)
	}
	if _, ok, err := s.Get("peer/"); ok || err != nil {
		t.Errorf("a prefix is no key: %v %v", ok, err)
	}
	got, err := s.List("peer/")
	want := []Save{{"peer/a", []byte("1")}, {"peer/b", []byte("2")}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("list: %v\n%s", err, diff)
	}
	if err := s.Update([]Save{{"peer/a", nil}, {"peer/b", []byte("20")}, {"never", nil}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete("peerless"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, path)
	all, err := again.List("")
	want = []Save{{"attach/x", []byte{}}, {"nil", []byte{}}, {"peer/b", []byte("20")}}
	if diff := cmp.Diff(want, all); diff != "" || err != nil {
		t.Errorf("after reopening: %v\n%s", err, diff)
	}
}

// An update is whole or nothing.
func TestUpdateFailsWhole(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "weave.db"))
	long := strings.Repeat("x", bbolt.MaxKeySize+1)
	if err := s.Update([]Save{{"a", []byte("1")}, {long, []byte("2")}}); err == nil {
		t.Fatal("a key too long was saved")
	}
	if err := s.Update([]Save{{"", []byte("2")}}); err == nil {
		t.Fatal("an empty key was saved")
	}
	if _, ok, _ := s.Get("a"); ok {
		t.Error("half of a failed update was saved")
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := mustOpen(t, filepath.Join(dir, "weave.db"))
	for path, want := range map[string]os.FileMode{dir: 0o700, s.Path(): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode().Perm(), err)
		}
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil { // whatever the umask
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(open, "weave.db")); err == nil || !strings.Contains(err.Error(), "written by other users") {
		t.Errorf("in a directory open to all: %v", err)
	}
}

func TestInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weave.db")
	mustOpen(t, path)
	_, err := open(path, time.Millisecond)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "WEAVE_STATE_DIR") {
		t.Errorf("second open: %v", err)
	}
}

// filled makes a state file with some content and returns its bytes.
func filled(t *testing.T, path string) []byte {
	t.Helper()
	s := mustOpen(t, path)
	var saves []Save
	for i := range 200 {
		saves = append(saves, Save{"peer/" + strconv.Itoa(i), bytes.Repeat([]byte{byte(i)}, 100)})
	}
	if err := s.Update(saves); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weave.db")
	good := filled(t, path)
	page := os.Getpagesize()
	spoil := func(from, to int) []byte {
		bad := bytes.Clone(good)
		for i := from; i < to; i++ {
			bad[i] = 0xff
		}
		return bad
	}
	value := bytes.Index(good, bytes.Repeat([]byte{42}, 100))
	for name, content := range map[string][]byte{
		"text":        []byte(strings.Repeat("this is no database\n", 1000)),
		"short text":  []byte("hello"),
		"zeroes":      make([]byte, 64<<10),
		"both metas":  spoil(0, 2*page),
		"all but":     spoil(2*page, len(good)),
		"truncated":   good[:len(good)/2],
		"three pages": good[:3*page],
		"one byte":    spoil(value+10, value+11),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path)
		if err == nil {
			s.Close()
			t.Errorf("%s: opened", name)
			continue
		}
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path)
}

// Whatever byte of the file is wrong, Open returns.
func TestDamageAnywhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "weave.db")
	good := filled(t, path)
	rapid.Check(t, func(t *rapid.T) {
		bad := bytes.Clone(good)
		for range rapid.IntRange(1, 8).Draw(t, "spots") {
			bad[rapid.IntRange(0, len(bad)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(path); err == nil {
			s.Close()
		}
	})
}

// A list of free pages that names pages in use makes bbolt panic, at once or at a later change; here that is an error, and
// the file can be opened by another right after.
func TestDamagedFreeList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weave.db")
	good := filled(t, path)
	page := os.Getpagesize()
	refused := 0
	for at := 2 * page; at < len(good); at += page {
		const freeList = 0x10 // bbolt, internal/common/page.go: 8 bytes number, 2 flags, 2 count, 4 overflow, then page numbers
		if binary.LittleEndian.Uint16(good[at+8:]) != freeList || binary.LittleEndian.Uint16(good[at+10:]) == 0 {
			continue
		}
		for wrong := range len(good) / page {
			bad := bytes.Clone(good)
			binary.LittleEndian.PutUint64(bad[at+16:], uint64(wrong))
			refused += usedUp(t, path, bad)
		}
	}
	if refused == 0 {
		t.Error("no damage was found")
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path)
}

// usedUp changes a file until an error comes, a few times at most, and returns how many did.
func usedUp(t *testing.T, path string, content []byte) int {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := open(path, time.Millisecond)
	for i := 0; err == nil && i < 20; i++ {
		err = s.Put("peer/"+strconv.Itoa(i), bytes.Repeat([]byte{1}, 3000))
	}
	if err != nil && !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if s != nil {
		if again := s.Delete("peer/0"); err != nil && again == nil {
			t.Errorf("changed after %v", err)
		}
		s.Close()
	}
	if err != nil {
		return 1
	}
	return 0
}

// foreign makes a bbolt file that is not as ours are.
func foreign(t *testing.T, path string, fill func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(fill); err != nil {
		t.Fatal(err)
	}
}

func TestForeign(t *testing.T) {
	dir := t.TempDir()
	other, later, half, none := filepath.Join(dir, "other"), filepath.Join(dir, "later"), filepath.Join(dir, "half"), filepath.Join(dir, "none")
	foreign(t, other, func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("somebody else's"))
		return err
	})
	if _, err := Open(other); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("another program's: %v", err)
	}
	foreign(t, half, func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(metaBucket)
		return err
	})
	if _, err := Open(half); !errors.Is(err, ErrCorrupt) {
		t.Errorf("half of ours: %v", err)
	}
	mustOpen(t, later).Close()
	foreign(t, later, func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(schemaKey, []byte("2")) })
	if _, err := Open(later); err == nil || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "later version") {
		t.Errorf("of a later version: %v", err)
	}
	foreign(t, none, func(*bbolt.Tx) error { return nil })
	mustOpen(t, none)
}

// A store says what a map would, over any run of operations and reopenings.
func TestAgainstMap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weave.db")
	rapid.Check(t, func(t *rapid.T) {
		os.Remove(path)
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { s.Close() }()
		want := map[string]string{}
		key := rapid.StringMatching(`[ab]/?[ab]?`)
		for range rapid.IntRange(0, 8).Draw(t, "steps") {
			var saves []Save
			for range rapid.IntRange(0, 4).Draw(t, "saves") {
				k, v := key.Draw(t, "key"), rapid.SliceOf(rapid.Byte()).Draw(t, "value")
				if rapid.Bool().Draw(t, "delete") {
					saves = append(saves, Save{Key: k})
					delete(want, k)
				} else {
					v = append([]byte{}, v...)
					saves = append(saves, Save{Key: k, Value: v})
					want[k] = string(v)
				}
			}
			if err := s.Update(saves); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		if s, err = Open(path); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		all, err := s.List("")
		if err != nil {
			t.Fatal(err)
		}
		for _, save := range all {
			got[save.Key] = string(save.Value)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
