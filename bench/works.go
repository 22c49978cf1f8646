package main

import "time"

// work is one kind of measurement.
type work struct {
	name  string
	takes func(options) time.Duration // roughly
	do    func(*contender, options, *meter) (figures, error)
}

func (w work) key() string { return w.name }

func works() []work {
	stream := func(name string, streams int, more ...string) work {
		return work{
			name:  name,
			takes: func(o options) time.Duration { return time.Duration(o.seconds)*time.Second + 600*time.Millisecond },
			do: func(c *contender, o options, m *meter) (figures, error) {
				gbps, cpu, err := tcp(c, streams, o.seconds, m, more...)
				return figures{name: gbps, name + ".cpu": cpu}, err
			},
		}
	}
	always := func(d time.Duration) func(options) time.Duration {
		return func(options) time.Duration { return d }
	}
	return []work{
		stream("tcp1", 1),
		stream("tcp4", 4),
		stream("reverse", 1, "-R"),
		stream("bidir", 1, "--bidir"),
		{name: "udp64", takes: always(5500 * time.Millisecond), do: datagrams("udp64", 64)},
		{name: "udp1200", takes: always(5500 * time.Millisecond), do: datagrams("udp1200", 1200)},
		{name: "rr", takes: always(2500 * time.Millisecond), do: roundTrips},
		{name: "cps", takes: always(connectFor + 200*time.Millisecond), do: connections},
	}
}
