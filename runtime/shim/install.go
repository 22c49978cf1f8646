package shim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"weave/runtime"
)

const (
	// RoutesFile stands beside the shim and lists, one a line, the IPv4 prefixes that have to have a route through the
	// interface too.
	RoutesFile = "routes"
	// noWaitFile stands beside the shim where there is nothing to wait for.
	noWaitFile = "nowait"
)

// Dirs are the directories that are mounted at /w in containers.
type Dirs struct {
	Wait   string
	NoWait string // its shim does not wait
}

// Install puts program, usually /proc/self/exe, and what to wait for into directories below dir, which has to outlive
// reboots: engines start containers before weave runs. A new version takes the place of the old one at once, also in
// containers that exist; those that wait go on with the old one.
func Install(dir, program string, routes []netip.Prefix) (Dirs, error) {
	d := Dirs{filepath.Join(dir, "w"), filepath.Join(dir, "w-noop")}
	var list strings.Builder
	for _, r := range routes {
		fmt.Fprintln(&list, r)
	}
	shared := filepath.Join(d.Wait, shimName)
	err := fill(d.Wait, RoutesFile, list.String(), func() error {
		if same, err := sameFile(shared, program); same || err != nil {
			return err
		}
		return replace(shared, func(temp string) error { return copyFile(temp, program) })
	})
	if err == nil {
		err = fill(d.NoWait, noWaitFile, "", func() error {
			return replace(filepath.Join(d.NoWait, shimName), func(temp string) error {
				if os.Link(shared, temp) == nil {
					return nil
				}
				return copyFile(temp, program) // a file system without hard links
			})
		})
	}
	if err != nil {
		return d, fmt.Errorf("install the wait shim: %w", err)
	}
	return d, nil
}

// shimName is the name of the binary in its directories.
var shimName = filepath.Base(runtime.ShimPath)

// fill makes a directory with a file and a shim. Whatever the umask: containers' users are others to us.
func fill(dir, name, text string, put func() error) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := replace(filepath.Join(dir, name), func(temp string) error { return os.WriteFile(temp, []byte(text), 0o644) })
	return errors.Join(err, os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, name), 0o644), put())
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
