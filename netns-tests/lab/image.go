package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"
)

// Image is the root of a container image, as a tar file: busybox with all its names.
func Image() ([]byte, error) {
	bin, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("%w: install busybox-static", err)
	}
	text, err := os.ReadFile(bin)
	if err != nil {
		return nil, err
	}
	names, err := exec.Command(bin, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("busybox --list: %w", err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var errs []error
	for _, dir := range []string{"bin", "etc", "proc", "sys", "dev", "root", "run", "var", "tmp"} {
		errs = append(errs, w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}))
	}
	add := func(name string, mode int64, text []byte) {
		errs = append(errs, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(text))}))
		_, err := w.Write(text)
		errs = append(errs, err)
	}
	add("bin/busybox", 0o755, text)
	add("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\n"))
	add("etc/group", 0o644, []byte("root:x:0:\n"))
	for _, name := range strings.Fields(string(names)) {
		if name = path.Base(name); name != "busybox" {
			errs = append(errs, w.WriteHeader(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}))
		}
	}
	errs = append(errs, w.Close())
	return b.Bytes(), errors.Join(errs...)
}

// ImageName is what Import calls the image.
const ImageName = "weave-test"

// Import gives an engine, "docker" or "podman", the image; changes are as its import takes them: 'CMD ["sh"]'.
func (m *Machine) Import(engine, name string, changes ...string) error {
	image, err := Image()
	if err != nil {
		return err
	}
	args := []string{engine, "import"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	r := m.RunEnv(nil, string(image), append(args, "-", name)...)
	if r.RC != 0 || r.Err != nil {
		return fmt.Errorf("%v", r)
	}
	return nil
}

// pingEngine asks an engine's socket whether it is there, as both APIs have it.
func pingEngine(socket string) error {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	resp, err := client.Get("http://engine/_ping")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the engine answers %s", resp.Status)
	}
	return nil
}
