package node

import (
	"slices"
	"time"

	"weave/stack"
)

// Numbers of the switch's ports: those on this host come first. Where there is a
// bridge, it is the only one, with all its containers behind the TAP.
const (
	tapPort         stack.Port = 1
	lastLocalPort   stack.Port = 1024
	firstRemotePort            = lastLocalPort + 1
)

// localPort is a port of the switch on this host: the bridge's TAP, a
// container's, or the host's own stack. It is immutable.
type localPort struct {
	port   stack.Port
	queues []tapQueue // a flow keeps to one of them
	vital  bool       // without it the data plane is of no use
}

// localPorts is all of them, by number; nil where there is none. It is immutable;
// a change makes a new one.
type localPorts []*localPort

func (l localPorts) of(p stack.Port) *localPort {
	if int(p) < len(l) {
		return l[p]
	}
	return nil
}

// addLocal makes a port known to the switch and to the lanes.
func (dp *dataplane) addLocal(p *localPort) {
	dp.setLocal(p.port, p)
	dp.sw.AddPort(p.port, stack.Local)
}

// removeLocal is the opposite. Lanes may still be using the queues: closing them
// makes them stop.
func (dp *dataplane) removeLocal(p stack.Port) {
	dp.sw.RemovePort(p)
	dp.setLocal(p, nil)
}

func (dp *dataplane) setLocal(at stack.Port, p *localPort) {
	dp.localsMu.Lock()
	defer dp.localsMu.Unlock()
	next := slices.Clone(*dp.locals.Load())
	for int(at) >= len(next) {
		next = append(next, nil)
	}
	next[at] = p
	dp.locals.Store(&next)
	for _, w := range dp.waiters {
		w.wake()
	}
}

// attend has a lane woken when ports come and go.
func (dp *dataplane) attend(w *waiter) {
	dp.localsMu.Lock()
	defer dp.localsMu.Unlock()
	dp.waiters = append(dp.waiters, w)
}

// drain waits until what local ports have now is forwarded, as it mostly is at once. A lane that gets no peace is not
// waited for long.
func (dp *dataplane) drain() {
	const patience, pause = 20 * time.Millisecond, 50 * time.Microsecond
	dp.localsMu.Lock()
	waiters := slices.Clone(dp.waiters)
	dp.localsMu.Unlock()
	end := time.Now().Add(patience)
	for _, w := range waiters {
		// The turn that is under way may have looked before now.
		for target := w.emptied.Load() + 2; w.emptied.Load() < target && time.Now().Before(end); time.Sleep(pause) {
			w.wake()
		}
	}
}

// write hands a packet to a port on this host. Which of its queues a flow enters
// by matters: the kernel reads answers of the flow from the same queue
// (tun_flow_update, drivers/net/tun.c), so this spreads both directions over the
// lanes.
func (dp *dataplane) write(to *localPort, frame []byte, parts [][]byte) {
	q := to.queues[0]
	if n := len(to.queues); n > 1 {
		q = to.queues[stack.FlowHash(dp.flows, frame)%uint32(n)]
	}
	if q.WriteV(parts) != nil {
		dp.counters.add(dropTap, 1)
	}
}
