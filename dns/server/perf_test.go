package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"weave/dns"
)

const (
	perfNames  = 10_000 // that BenchmarkBesideDnsmasq serves
	perfRounds = 5
	perfRate   = "20000" // queries per second while latency is measured
	perfServer = "WEAVE_DNS_PERF_SERVER"
)

// BenchmarkBesideDnsmasq has dnsperf ask for 10,000 names on loopback, of this
// server in a process of its own and of dnsmasq, in turn, several rounds: as fast
// as it goes for 5 s, then at a rate that both can bear, with the time that each
// query took. It reports medians of the rounds, and logs each. It needs dnsperf
// and dnsmasq (Debian: dnsperf, dnsmasq-base); -bench Dnsmasq -benchtime 1x -v
// runs it once.
func BenchmarkBesideDnsmasq(b *testing.B) {
	for _, tool := range []string{"dnsperf", "dnsmasq"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Skip(err)
		}
	}
	dir := b.TempDir()
	queries, hosts := perfFiles(b, dir)
	servers := []perfTarget{perfWeave(b), perfDnsmasq(b, dir, hosts)}
	for b.Loop() {
		var rounds [2][]perfRound
		for i := range perfRounds {
			for j := range servers {
				at := (i + j) % 2 // each begins in every second round
				r := servers[at].round(b, dir, queries)
				b.Logf("round %d, %s: %.0f queries/s, %.2f µs CPU a query; at %s/s p50 %.0f µs, p99 %.0f µs", i+1, servers[at].name, r.rate, r.cpu, perfRate, r.p50, r.p99)
				rounds[at] = append(rounds[at], r)
			}
		}
		for at, s := range servers {
			median := func(of func(perfRound) float64) float64 {
				slices.SortFunc(rounds[at], func(x, y perfRound) int { return int(1000 * (of(x) - of(y))) })
				return of(rounds[at][perfRounds/2])
			}
			b.ReportMetric(median(func(r perfRound) float64 { return r.rate }), s.name+"-queries/s")
			b.ReportMetric(median(func(r perfRound) float64 { return r.cpu }), s.name+"-cpu-µs/query")
			b.ReportMetric(median(func(r perfRound) float64 { return r.p50 }), s.name+"-p50-µs")
			b.ReportMetric(median(func(r perfRound) float64 { return r.p99 }), s.name+"-p99-µs")
		}
	}
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

// perfTarget is a server in a process of its own.
type perfTarget struct {
	name string
	at   netip.AddrPort
	pid  int
}

// perfWeave has this program serve, see TestMain.
func perfWeave(b *testing.B) perfTarget {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), perfServer+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	var at string
	if _, err := fmt.Fscanln(out, &at); err != nil {
		b.Fatal(err)
	}
	return perfTarget{"weave", netip.MustParseAddrPort(at), cmd.Process.Pid}
}

// servePerf is the server that BenchmarkBesideDnsmasq measures: it says where it
// is, and serves until its input ends.
func servePerf() error {
	core := dns.New(dns.Config{Run: 1, Domain: local, Rand: rand.NewPCG(1, 1)})
	for i := range perfNames {
		addr := netip.AddrFrom4([4]byte{10, byte(1 + i>>16), byte(i >> 8), byte(i)})
		core.Step(time.Unix(1, 0), dns.Add{Records: []dns.Record{{Name: fmt.Sprintf("host-%d.weave.local", i), Ident: "c", Addr: addr}}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	packets, streams, err := Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), max(2, goruntime.NumCPU()))
	if err != nil {
		cancel()
		return err
	}
	fmt.Println(packets[0].LocalAddr())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	return New(Config{Index: core.Index(), Domain: local, TTL: time.Second}).Run(ctx, packets, streams)
}

func perfDnsmasq(b *testing.B, dir, hosts string) perfTarget {
	b.Helper()
	probe, streams, err := Listen(b.Context(), netip.MustParseAddrPort("127.0.0.1:0"), 1)
	if err != nil {
		b.Fatal(err)
	}
	at := probe[0].LocalAddr().(*net.UDPAddr).AddrPort()
	_, _ = probe[0].Close(), streams[0].Close()
	cmd := exec.Command("dnsmasq", "-k", "-C", "/dev/null", "-h", "-H", hosts, "-p", strconv.Itoa(int(at.Port())), "-a", "127.0.0.1", "-z", "-R",
		"--pid-file="+filepath.Join(dir, "pid"), "-u", "root")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", at.String())
		if err == nil {
			_ = c.Close()
			return perfTarget{"dnsmasq", at, cmd.Process.Pid}
		}
		if time.Now().After(deadline) {
			b.Fatal(err)
		}
	}
}

// perfRound is what dnsperf saw, in queries per second and microseconds.
type perfRound struct{ rate, cpu, p50, p99 float64 }

var (
	perSecond = regexp.MustCompile(`Queries per second:\s+([\d.]+)`)
	completed = regexp.MustCompile(`Queries completed:\s+(\d+)`)
	allGood   = regexp.MustCompile(`Response codes:\s+NOERROR \d+ \(100\.00%\)`)
)

func (s perfTarget) round(b *testing.B, dir, queries string) perfRound {
	b.Helper()
	before := s.cpu(b)
	out := s.dnsperf(b, dir, queries)
	spent := s.cpu(b) - before
	r := perfRound{rate: number(b, perSecond, out), cpu: float64(spent.Microseconds()) / number(b, completed, out)}
	var took []float64
	for line := range bytes.Lines(s.dnsperf(b, dir, queries, "-v", "-Q", perfRate)) {
		if f := strings.Fields(string(line)); len(f) == 5 && f[0] == ">" { // > NOERROR host-1.weave.local A 0.000123
			seconds, err := strconv.ParseFloat(f[4], 64)
			if err != nil {
				b.Fatal(err)
			}
			took = append(took, seconds*1e6)
		}
	}
	if len(took) == 0 {
		b.Fatal("dnsperf does not tell how long queries took")
	}
	slices.Sort(took)
	r.p50, r.p99 = took[len(took)/2], took[len(took)*99/100]
	return r
}

// dnsperf asks for 5 s with 8 clients and 100 queries under way, all of which
// must be answered.
func (s perfTarget) dnsperf(b *testing.B, dir, queries string, more ...string) []byte {
	b.Helper()
	path := filepath.Join(dir, "out")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("dnsperf", append([]string{"-s", s.at.Addr().String(), "-p", strconv.Itoa(int(s.at.Port())), "-d", queries, "-l", "5", "-c", "8", "-q", "100"}, more...)...)
	cmd.Stdout = f
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
	out, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	if !allGood.Match(out) {
		b.Fatalf("not every query was answered by %s: %s", s.name, out[max(0, len(out)-1000):])
	}
	return out
}

func number(b *testing.B, re *regexp.Regexp, out []byte) float64 {
	b.Helper()
	m := re.FindSubmatch(out)
	if m == nil {
		b.Fatalf("dnsperf says %s", out)
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// cpu is what the process has used. It reads proc_pid_stat(5), user and system
// time in hundredths of a second: the 12th and 13th field after the name, which
// is in parentheses.
func (s perfTarget) cpu(b *testing.B) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err := strconv.Atoi(f[11])
	if err != nil {
		b.Fatal(err)
	}
	system, err := strconv.Atoi(f[12])
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
