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
func tcp(c *contender, streams, seconds int, m *meter, more ...string) (gbps, cpuPerGB float64, err error) {
	if _, err := exec.LookPath("iperf3"); err != nil {
		return 0, 0, fmt.Errorf("iperf3 is missing; %siperf3", debian)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds+10)*time.Second)
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
	// cubic everywhere, whatever the machine prefers
	args := append([]string{"-c", c.addr, "-t", fmt.Sprint(seconds), "-C", "cubic", "-P", fmt.Sprint(streams), "-J", "--connect-timeout", "5000"}, more...)
	before := m.seconds()
	r := c.from.Run(ctx, nil, "", "iperf3", args...)
	spent := m.seconds() - before
	if r.Err != nil {
		return 0, 0, fmt.Errorf("iperf3: %w", r.Err)
	}
	bits, bytes, err := parseIperf([]byte(r.Stdout))
	if err != nil {
		return 0, 0, err
	}
	return bits / 1e9, spent / (bytes / 1e9), nil
}

// parseIperf reads what arrived, in both directions, from iperf3's report.
func parseIperf(text []byte) (bitsPerSecond, bytes float64, err error) {
	type sum struct {
		Bytes         float64
		BitsPerSecond float64 `json:"bits_per_second"`
	}
	var report struct {
		Error string
		End   struct {
			Received sum `json:"sum_received"`
			Back     sum `json:"sum_received_bidir_reverse"`
		}
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return 0, 0, fmt.Errorf("iperf3's report: %w", err)
	}
	if report.Error != "" {
		return 0, 0, fmt.Errorf("iperf3: %s", report.Error)
	}
	got, back := report.End.Received, report.End.Back
	if got.Bytes == 0 {
		return 0, 0, fmt.Errorf("iperf3 transferred nothing")
	}
	return got.BitsPerSecond + back.BitsPerSecond, got.Bytes + back.Bytes, nil
}
