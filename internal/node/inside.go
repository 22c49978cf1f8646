package node

import (
	"context"
	"encoding/json"
	"fmt"

	"weave/runtime"
	"weave/runtime/netlink"
	"weave/runtime/rootless"
	"weave/tun"
)

// Inside is the child: it makes the interface of the namespaces that it is in what the daemon's request says.
func Inside() error {
	return rootless.Serve(func(body []byte) ([]byte, int, error) {
		var req insideRequest
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, -1, fmt.Errorf("read the request: %w", err)
		}
		fd := -1
		if req.MakeTap {
			a := req.Attachment
			device, err := tun.Open(tun.Config{Name: runtime.Inner, MTU: a.MTU, MAC: a.MAC[:], Backend: tun.Kernel, LeaveDown: true})
			if err != nil {
				return nil, -1, err
			}
			if err := device.Queues()[0].Control(func(got uintptr) { fd = int(got) }); err != nil {
				return nil, -1, err
			}
		}
		req.Attachment.Service = req.Service
		warnings, err := netlink.Inside(context.Background(), req.Attachment, req.Gateways, nil)
		if err != nil {
			return nil, -1, err
		}
		reply, err := json.Marshal(insideReply{warnings})
		return reply, fd, err
	})
}
