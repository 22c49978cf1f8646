package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// bootRamdisk is the first process of a guest with a ramdisk: it loads the modules there, mounts the machine's files under
// an overlay in memory, and goes on with init.sh in them. It returns only if it failed.
func bootRamdisk() error {
	mount := func(source, target, kind string, flags uintptr, data string) error {
		if err := unix.Mount(source, target, kind, flags, data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", source, target, err)
		}
		return nil
	}
	if err := errors.Join(mount("proc", "/proc", "proc", 0, ""), mount("sys", "/sys", "sysfs", 0, ""), mount("dev", "/dev", "devtmpfs", 0, "")); err != nil {
		return err
	}
	share, modules := argument("share"), argument("modules")
	if err := loadModules(); err != nil {
		return err
	}
	const how = "trans=virtio,version=9p2000.L,msize=262144"
	err := errors.Join(
		mount("root", "/lower", "9p", unix.MS_RDONLY, how+",cache=loose"), mount("memory", "/memory", "tmpfs", 0, "mode=755"),
		os.Mkdir("/memory/upper", 0o755), os.Mkdir("/memory/work", 0o755), os.Mkdir("/memory/root", 0o755),
		mount("overlay", "/memory/root", "overlay", 0, "lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work"),
	)
	if err != nil {
		return err
	}
	for _, dir := range []string{"proc", "sys", "dev"} {
		if err := mount("/"+dir, "/memory/root/"+dir, "", unix.MS_MOVE, ""); err != nil {
			return err
		}
	}
	err = errors.Join(os.Chdir("/memory/root"), mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), os.Chdir("/"))
	if err != nil {
		return err
	}
	if err := mount("share", "/media", "9p", 0, how); err != nil { // below /tmp it would be hidden
		return err
	}
	env := []string{"share=" + share, "modules=" + modules, "TERM=dumb"}
	return unix.Exec("/bin/bash", []string{"bash", "/media/init", "inside"}, env)
}

func loadModules() error {
	files, _ := filepath.Glob("/modules/*.ko")
	slices.Sort(files)
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		_ = f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("load %s: %w", file, err)
		}
	}
	return nil
}

// argument is what the kernel's command line says for a name.
func argument(name string) string {
	line, _ := os.ReadFile("/proc/cmdline")
	for _, word := range strings.Fields(string(line)) {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
	}
	return ""
}
