package wire

// A Fault says why a packet or plaintext was dropped; zero means it was not. Faults are small numbers so that a driver
// can count them in an array of FaultCount counters. It is no error on purpose: nothing here is worth cutting anything.
type Fault uint8

const (
	FaultNone      Fault = iota
	FaultShort           // ends before the layout it begins does, or is no Ethernet frame
	FaultLong            // more than an Ethernet frame may hold
	FaultKind            // a kind of plaintext we do not know; from a newer peer, perhaps
	FaultOffload         // offload fields that contradict each other or the frame's headers
	FaultSegment         // a segment with sizes or an index that no super-frame has
	FaultFragment        // a fragment outside its packet, or that contradicts earlier ones
	FaultDuplicate       // a fragment that covers bytes which have already arrived
	FaultLimit           // the path's limit leaves no room for payload
	FaultCount           // how many there are, FaultNone included
)

var faultNames = [FaultCount]string{
	"none", "short", "long", "kind", "offload", "segment", "fragment", "duplicate", "limit",
}

// String is a word that can serve as a metric's label.
func (f Fault) String() string {
	if f >= FaultCount {
		return "unknown"
	}
	return faultNames[f]
}
