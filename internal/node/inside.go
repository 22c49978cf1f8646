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
	return rootless.Serve(func(body []byte) ([]byte, rootless.Lender, error) {
		var req insideRequest
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, nil, fmt.Errorf("read the request: %w", err)
		}
		var tap rootless.Lender
		if req.MakeTap {
			a := req.Attachment
			device, err := tun.Open(tun.Config{Name: runtime.Inner, MTU: a.MTU, MAC: a.MAC[:], Backend: tun.Kernel, LeaveDown: true})
			if err != nil {
				return nil, nil, err
			}
			tap = device.Queues()[0]
		}
		req.Attachment.Service = req.Service
		warnings, err := netlink.Inside(context.Background(), req.Attachment, req.Gateways, nil)
		if err != nil {
			return nil, nil, err
		}
		reply, err := json.Marshal(insideReply{warnings})
		return reply, tap, err
	})
}
