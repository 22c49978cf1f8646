package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"time"

	"weave/netns-tests/lab"
)

// tcp measures bulk transfer from one container to the other: gigabits per
// second, and CPU-seconds of the whole machine's share in it per gigabyte.
func tcp(c *contender, streams, seconds int, m *meter) (gbps, cpuPerGB float64, err error) {
	if _, err := exec.LookPath("iperf3"); err != nil {
		return 0, 0, fmt.Errorf("iperf3 is missing; as root: apt-get install --no-install-recommends iperf3")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds+20)*time.Second)
	defer cancel()
	server := exec.CommandContext(ctx, "iperf3", "-s", "-1")
	if err := c.to.Start(server); err != nil {
		return 0, 0, err
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	if err := lab.Eventually(5*time.Second, func() error {
		if !lab.Listening(server.Process.Pid, 5201) {
			return fmt.Errorf("the iperf3 server does not listen")
		}
		return nil
	}); err != nil {
		return 0, 0, err
	}
	before := m.seconds()
	// cubic everywhere, whatever the machine prefers
	r := c.from.Run(ctx, nil, "", "iperf3", "-c", c.addr, "-t", fmt.Sprint(seconds), "-C", "cubic", "-P", fmt.Sprint(streams), "-J")
	spent := m.seconds() - before
	var report struct {
		Error string
		End   struct {
			Received struct {
				Bytes         float64
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil || report.Error != "" {
		return 0, 0, fmt.Errorf("iperf3: %s (%w)", report.Error, err)
	}
	got := report.End.Received
	if got.Bytes == 0 {
		return 0, 0, fmt.Errorf("iperf3 transferred nothing: %v", r)
	}
	return got.BitsPerSecond / 1e9, spent / (got.Bytes / 1e9), nil
}
