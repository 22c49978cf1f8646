package guest

import (
	"fmt"
	"os"
	"testing"

	"weave/netns-tests/lab"
)

func TestMain(m *testing.M) {
	if os.Getenv("WEAVE_VM") == "" {
		fmt.Println("these tests are for a kernel with IPsec: make test-vm")
		return
	}
	os.Exit(lab.Main(m.Run))
}
