package podman

import "path/filepath"

// Name is what Containers say their engine is, unless Open is given another name.
const Name = "podman"

// RootEndpoint is where systemd's podman.socket of the system listens.
const RootEndpoint = "unix:///run/podman/podman.sock"

// UserEndpoint is where the podman.socket of a user's systemd listens. runtimeDir is the user's XDG_RUNTIME_DIR.
func UserEndpoint(runtimeDir string) string {
	return "unix://" + filepath.Join(runtimeDir, "podman", "podman.sock")
}
