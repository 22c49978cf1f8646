package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// wanted are the parts of Debian's package that a guest may need; all of it is 400 MB.
var wanted = []string{
	"boot/vmlinuz-*", "lib/modules/*/modules.*", "lib/modules/*/kernel/net", "lib/modules/*/kernel/crypto", "lib/modules/*/kernel/lib",
	"lib/modules/*/kernel/fs", "lib/modules/*/kernel/arch", "lib/modules/*/kernel/drivers/net", "lib/modules/*/kernel/drivers/virtio",
	"lib/modules/*/kernel/drivers/char", "lib/modules/*/kernel/virt",
}

// debian is a kernel of Debian's, unpacked and not installed.
type debian struct{ dir, version string }

// fetchDebian finds the kernel below dir, or downloads it there.
func fetchDebian(ctx context.Context, dir string) (debian, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return debian{}, err
	}
	if dir, err := filepath.Abs(dir); err == nil {
		if found, _ := filepath.Glob(filepath.Join(dir, "lib/modules/*/modules.dep.bin")); len(found) > 0 {
			return debian{dir, filepath.Base(filepath.Dir(found[0]))}, nil
		}
	}
	fmt.Fprintln(os.Stderr, "fetching a kernel of Debian's …")
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", "linux-image-amd64").Output()
	_, name, found := strings.Cut(string(out), "Depends: ")
	if err != nil || !found {
		return debian{}, fmt.Errorf("find the package of a kernel: %w (apt-get update?)", errors.Join(err, errors.New("no linux-image-amd64")))
	}
	name = strings.Fields(name)[0]
	version := strings.TrimPrefix(name, "linux-image-")
	script := `apt-get download -q "$1" && dpkg-deb --fsys-tarfile "$1"_*.deb | tar -x --wildcards "${@:3}"; rm "$1"_*.deb; depmod -b "$PWD" "$2"`
	args := append([]string{"-c", script, "bash", name, version}, wanted...)
	for i := range args[5:] {
		args[5+i] = "./" + args[5+i]
	}
	cmd := exec.CommandContext(ctx, "bash", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return debian{}, fmt.Errorf("fetch %s: %w\n%s", name, err, out)
	}
	return debian{dir, version}, nil
}

// guest is the command that boots the kernel in qemu, which emulates the processor: it is slow, and needs nothing.
func (d debian) guest(ctx context.Context, o options, share string) (*exec.Cmd, error) {
	dir, err := filepath.Abs(d.dir)
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(share, "initrd")
	if err := d.writeInitrd(ctx, initrd, share); err != nil {
		return nil, fmt.Errorf("make the initial ramdisk: %w", err)
	}
	modules := filepath.Join(dir, "lib/modules")
	shared := func(path, tag, more string) []string {
		return []string{"-virtfs", "local,path=" + path + ",mount_tag=" + tag + ",security_model=none,multidevs=remap" + more}
	}
	args := []string{
		"-accel", "tcg,thread=multi", "-cpu", "max", "-m", o.memory, "-smp", "2", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
		"-kernel", filepath.Join(dir, "boot/vmlinuz-"+d.version), "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 share=" + share + " modules=" + modules, "-device", "virtio-rng-pci",
	}
	args = append(append(args, shared("/", "root", ",readonly=on")...), shared(share, "share", "")...)
	return exec.CommandContext(ctx, "qemu-system-x86_64", args...), nil
}

// writeInitrd packs what mounts the machine's files: ourselves as the first process, see initrd.go, and modules.
func (d debian) writeInitrd(ctx context.Context, path, share string) error {
	self := filepath.Join(share, "vm")
	if err := build(ctx, "build", "-o", self, "./netns-tests/vm"); err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	archive := &cpio{out: zip}
	archive.add("init", 0o100755, program)
	for _, dir := range []string{"proc", "sys", "dev", "lower", "memory", "modules"} {
		archive.add(dir, 0o40755, nil)
	}
	modules, err := d.needed("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_rng")
	if err != nil {
		return err
	}
	for i, file := range modules {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		archive.add(fmt.Sprintf("modules/%03d.ko", i), 0o100644, content)
	}
	archive.end()
	if err := errors.Join(archive.err, zip.Close()); err != nil {
		return err
	}
	return os.WriteFile(path, packed.Bytes(), 0o644)
}

// needed lists the files of modules with those that they depend on, in the order to load them.
func (d debian) needed(names ...string) ([]string, error) {
	base := filepath.Join(d.dir, "lib/modules", d.version)
	text, err := os.ReadFile(filepath.Join(base, "modules.dep"))
	if err != nil {
		return nil, err
	}
	var out []string
	seen := map[string]bool{}
	for _, name := range names {
		for line := range strings.Lines(string(text)) {
			file, on, _ := strings.Cut(strings.TrimSpace(line), ":")
			if filepath.Base(file) != name+".ko" {
				continue
			}
			all := append([]string{file}, strings.Fields(on)...)
			for i := len(all) - 1; i >= 0; i-- { // what others depend on is last
				if !seen[all[i]] {
					out = append(out, filepath.Join(base, all[i]))
				}
				seen[all[i]] = true
			}
		}
	}
	return out, nil
}
