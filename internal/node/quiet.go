package node

const (
	// quietAfter turns in a row in which a device had nothing make it a quiet one.
	quietAfter = 32
	// quietEvery is how often turns look at quiet devices. To look costs a system
	// call, without root one for the TAP of each container; what comes out of its
	// quiet waits for three turns at most.
	quietEvery = 4
)

// quiet counts the turns in a row in which a device had nothing, up to quietAfter.
type quiet uint8

// is says whether the device is a quiet one.
func (q quiet) is() bool { return q == quietAfter }

// found takes in how many bytes the device had.
func (q *quiet) found(bytes int) {
	if bytes > 0 {
		*q = 0
	} else if !q.is() {
		*q++
	}
}
