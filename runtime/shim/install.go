package shim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Dirs are the directories that are mounted at /w in containers.
type Dirs struct {
	Wait        string
	NoMulticast string // does not wait for the multicast route
	NoWait      string // does not wait at all
}

// Install puts program, usually /proc/self/exe, into directories below dir, which has to outlive reboots: engines start
// containers before weave runs. What is there already stays; a new version takes the place of the old one at once, also
// in containers that exist.
func Install(dir, program string) (Dirs, error) {
	d := Dirs{filepath.Join(dir, "w"), filepath.Join(dir, "w-nomcast"), filepath.Join(dir, "w-noop")}
	for _, v := range []struct{ dir, mark string }{{d.Wait, ""}, {d.NoMulticast, markNoMulticast}, {d.NoWait, markNoWait}} {
		if err := installOne(v.dir, v.mark, program, filepath.Join(d.Wait, Name)); err != nil {
			return d, fmt.Errorf("install the wait shim: %w", err)
		}
	}
	return d, nil
}

// installOne fills one directory; all but the first share the file of that.
func installOne(dir, mark, program, shared string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask: containers' users are others to us
		return err
	}
	if mark != "" {
		if err := os.WriteFile(filepath.Join(dir, mark), nil, 0o644); err != nil {
			return err
		}
	}
	file := filepath.Join(dir, Name)
	if file != shared {
		return replace(file, func(temp string) error { return os.Link(shared, temp) })
	}
	if same, err := sameFile(file, program); same || err != nil {
		return err
	}
	return replace(file, func(temp string) error { return copyFile(temp, program) })
}

// replace makes a file anew and puts it in its place at once.
func replace(file string, make func(temp string) error) error {
	temp := file + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := make(temp); err != nil {
		return err
	}
	err := os.Rename(temp, file)
	_ = os.Remove(temp) // renaming a file to a link to itself leaves both
	return err
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(0o755), out.Sync(), out.Close())
}

// sameFile compares contents; a file that is not there is another.
func sameFile(a, b string) (bool, error) {
	fa, err := os.Open(a)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		na, errA := io.ReadFull(fa, bufA)
		nb, errB := io.ReadFull(fb, bufB)
		if na != nb || !bytes.Equal(bufA[:na], bufB[:nb]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return (errA == io.EOF || errA == io.ErrUnexpectedEOF) && (errB == io.EOF || errB == io.ErrUnexpectedEOF), nil
		}
	}
}
