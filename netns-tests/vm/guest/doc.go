// Package guest holds the tests that need what few machines' kernels have, which is IPsec and WireGuard; `make test-vm` runs them in a
// guest. Where WEAVE_VM is not set they are not run: they are for a kernel that has it, and fail on others.
//
// Two hosts of a lab have a VXLAN device each, which sends to the other, and a Shield between them. A watch on the underlay
// sees every frame, and tells VXLAN in clear from ESP.
package guest
