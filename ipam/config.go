package ipam

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"weave/peer"
)

// InitMode is how the first ring comes to be.
type InitMode uint8

const (
	// InitConsensus: a majority of the peers agrees on it.
	InitConsensus InitMode = iota
	// InitSeeds: every peer is told the same list, and makes the same ring of it.
	InitSeeds
	// InitObserver: the others make it.
	InitObserver
)

// Init says how the first ring comes to be.
type Init struct {
	Mode  InitMode
	Count int         // InitConsensus: of how many peers a majority is needed; 0: as Reachable says
	Seeds []peer.Name // InitSeeds
}

// ParseInit reads what --ipalloc-init says: consensus[=N], seed=NAME,NAME… or
// observer; "" is consensus. The errors' texts are Weave Net's.
func ParseInit(text string) (Init, error) {
	mode, parameter, has := strings.Cut(text, "=")
	switch mode {
	case "", "consensus":
		if !has {
			return Init{}, nil
		}
		n, err := strconv.Atoi(parameter)
		if err != nil || n < 1 || n > 1<<16 {
			return Init{}, fmt.Errorf("bad consensus parameter: %q is no number of peers", parameter)
		}
		return Init{Count: n}, nil
	case "seed":
		if parameter == "" {
			return Init{}, fmt.Errorf("seed mode requires peer name list")
		}
		i := Init{Mode: InitSeeds}
		for _, s := range strings.Split(parameter, ",") {
			n, err := peer.ParseName(s)
			if err != nil {
				return Init{}, err
			}
			i.Seeds = append(i.Seeds, n)
		}
		return i, nil
	case "observer":
		if has {
			return Init{}, fmt.Errorf("observer mode takes no parameter")
		}
		return Init{Mode: InitObserver}, nil
	}
	return Init{}, fmt.Errorf("unknown mode: %s", mode)
}

// MinSubnet is the longest prefix of a subnet: it has two addresses to give.
const MinSubnet = 30

// CheckSubnet says what is wrong with a subnet to allocate from, in Weave Net's
// words.
func CheckSubnet(subnet, within netip.Prefix) error {
	switch {
	case !subnet.IsValid() || !subnet.Addr().Is4():
		return fmt.Errorf("invalid subnet - not an IPv4 one: %s", subnet)
	case subnet != subnet.Masked():
		return fmt.Errorf("invalid subnet - bits after network prefix are not all zero: %s", subnet)
	case subnet.Bits() > MinSubnet:
		return fmt.Errorf("invalid subnet - smaller than minimum size 4: %s", subnet)
	case !subnet.Overlaps(within):
		return fmt.Errorf("range %s out of bounds: %s", subnet, within)
	}
	return nil
}

// Config is what a Core is made of. Name, Range and Rand are required.
type Config struct {
	Name         peer.Name
	Nickname     string
	Range        netip.Prefix // as CheckSubnet accepts within itself
	Init         Init
	ReclaimAfter time.Duration // take over the space of peers gone that long; 0 = never
	Rand         rand.Source
	Saved        Saved // of the last run
}

// Core is the allocator of one peer; see the package comment.
type Core struct {
	cfg     Config
	rng     *rand.Rand
	self    Member
	ring    *Ring // nil until there is one
	segs    []Segment
	space   space
	held    holdings
	world   world
	work    work
	decrees map[Member]*decree // by the peer whose heir is sought; the zero Member: the first ring
	gossip  gossip
	out     output
	now     time.Time
	left    bool // all was handed over
}

// output is what a Step gathers.
type output struct {
	Effects
	stale bool // what View shows has changed
	table []SegmentView
	count Counters
}

// Counters count what never stops anybody but should be seen. They only grow.
type Counters struct {
	BadMessages uint64 // of other peers, malformed or of impossible content
	Allocated   uint64
	Claimed     uint64
	Freed       uint64
	Asked       uint64 // questions sent for space
	Given       uint64 // addresses given to other peers
	Got         uint64 // addresses got from other peers
}

// New makes the allocator as it was saved, or without anything saved a new one.
// What was saved under another name or range is dropped. It panics when a
// required field of cfg is missing. The first Step may come with any Input.
func New(cfg Config) *Core {
	if cfg.Name.IsZero() || cfg.Rand == nil || CheckSubnet(cfg.Range, cfg.Range) != nil {
		panic("ipam: New needs Name, Range and Rand")
	}
	cfg.Nickname = printable(cfg.Nickname, maxNick)
	slices.SortFunc(cfg.Init.Seeds, peer.Name.Compare)
	cfg.Init.Seeds = slices.Compact(cfg.Init.Seeds)
	c := &Core{
		cfg: cfg, rng: rand.New(cfg.Rand), self: Member{cfg.Name, 1}, held: newHoldings(),
		world: newWorld(), work: newWork(), decrees: map[Member]*decree{},
	}
	c.space.ranges = spanOf(cfg.Range)
	c.out.stale = true
	c.world.nicks[cfg.Name] = cfg.Nickname
	c.restore(cfg.Saved)
	c.cfg.Saved = Saved{}
	if c.ring == nil && cfg.Init.Mode == InitSeeds {
		c.adopt(NewRing(Genesis{Range: cfg.Range, Seeds: cfg.Init.Seeds}))
	}
	return c
}
