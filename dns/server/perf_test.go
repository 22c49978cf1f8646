package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weave/dns"
)

// perfNames is how many names BenchmarkBesideDnsmasq serves.
const perfNames = 10_000

// BenchmarkBesideDnsmasq has dnsperf ask for 10,000 names on loopback, of this
// server and of dnsmasq in turn. It needs dnsperf and dnsmasq (Debian: dnsperf,
// dnsmasq-base); -bench Dnsmasq -benchtime 1x runs it once.
func BenchmarkBesideDnsmasq(b *testing.B) {
	for _, tool := range []string{"dnsperf", "dnsmasq"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Skip(err)
		}
	}
	dir := b.TempDir()
	queries, hosts := perfFiles(b, dir)
	b.Run("weave", func(b *testing.B) {
		at := perfServe(b)
		perf(b, queries, at, func() time.Duration { return cpuOf(unix.RUSAGE_SELF) })
	})
	b.Run("dnsmasq", func(b *testing.B) {
		cmd := exec.Command("dnsmasq", "-k", "-C", "/dev/null", "-h", "-H", hosts, "-p", "5399", "-a", "127.0.0.1", "-R", "-z",
			"--pid-file="+filepath.Join(dir, "pid"), "-u", "root")
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		at := netip.MustParseAddrPort("127.0.0.1:5399")
		for {
			if c, err := net.Dial("tcp", at.String()); err == nil {
				_ = c.Close()
				break
			}
		}
		perf(b, queries, at, func() time.Duration { return cpuOfProcess(b, cmd.Process.Pid) })
	})
}

func perfFiles(b *testing.B, dir string) (queries, hosts string) {
	b.Helper()
	var q, h []byte
	for i := range perfNames {
		q = fmt.Appendf(q, "host-%d.weave.local A\n", i)
		h = fmt.Appendf(h, "10.%d.%d.%d host-%d.weave.local\n", 1+i>>16, i>>8&255, i&255, i)
	}
	queries, hosts = filepath.Join(dir, "queries"), filepath.Join(dir, "hosts")
	for path, text := range map[string][]byte{queries: q, hosts: h} {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return queries, hosts
}

func perfServe(b *testing.B) netip.AddrPort {
	b.Helper()
	core := dns.New(dns.Config{Run: 1, Domain: local, Rand: rand.NewPCG(1, 1)})
	for i := range perfNames {
		addr := netip.AddrFrom4([4]byte{10, byte(1 + i>>16), byte(i >> 8), byte(i)})
		core.Step(time.Unix(1, 0), dns.Add{Records: []dns.Record{{Name: fmt.Sprintf("host-%d.weave.local", i), Ident: "c", Addr: addr}}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	packets, streams, err := Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), max(2, goruntime.NumCPU()))
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- New(Config{Index: core.Index(), Domain: local, TTL: time.Second}).Run(ctx, packets, streams)
	}()
	b.Cleanup(func() { cancel(); <-ended })
	return packets[0].LocalAddr().(*net.UDPAddr).AddrPort()
}

var (
	perSecond = regexp.MustCompile(`Queries per second:\s+([\d.]+)`)
	completed = regexp.MustCompile(`Queries completed:\s+(\d+)`)
	allGood   = regexp.MustCompile(`Response codes:\s+NOERROR \d+ \(100\.00%\)`)
	latency   = regexp.MustCompile(`Average Latency \(s\):\s+([\d.]+)`)
)

// perf runs dnsperf for a while and reports what it saw, and the CPU time per
// query of the server.
func perf(b *testing.B, queries string, at netip.AddrPort, cpu func() time.Duration) {
	b.Helper()
	for b.Loop() {
		before := cpu()
		out, err := exec.Command("dnsperf", "-s", at.Addr().String(), "-p", strconv.Itoa(int(at.Port())), "-d", queries, "-l", "5", "-c", "8", "-q", "100").Output()
		if err != nil {
			b.Fatal(err)
		}
		spent := cpu() - before
		if !allGood.Match(out) {
			b.Fatalf("not every query was answered: %s", out)
		}
		number := func(re *regexp.Regexp) float64 {
			m := re.FindSubmatch(out)
			if m == nil {
				b.Fatalf("dnsperf says %s", out)
			}
			n, _ := strconv.ParseFloat(string(m[1]), 64)
			return n
		}
		b.ReportMetric(number(perSecond), "queries/s")
		b.ReportMetric(float64(spent.Nanoseconds())/number(completed), "cpu-ns/query")
		b.ReportMetric(number(latency)*1e6, "µs-average")
	}
}

func cpuOf(who int) time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(who, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuOfProcess reads fields 14 and 15 of proc_pid_stat(5), in hundredths of a
// second.
func cpuOfProcess(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	var name, state string
	var skip [10]int64
	var user, system int64
	args := []any{new(int), &name, &state}
	for i := range skip {
		args = append(args, &skip[i])
	}
	if _, err := fmt.Sscan(string(text), append(args, &user, &system)...); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
