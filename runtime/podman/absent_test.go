//go:build !remote

package podman

import (
	"strings"
	"testing"
)

func TestOpenSaysWhyNot(t *testing.T) {
	if _, err := Open("engine", ""); err == nil || !strings.Contains(err.Error(), "built without podman support") {
		t.Errorf("open: %v, want an error that says what was left out", err)
	}
}
