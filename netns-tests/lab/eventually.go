package lab

import (
	"fmt"
	"time"
)

// pollEvery is the pause between two looks at a condition.
const pollEvery = 20 * time.Millisecond

// Eventually looks again and again until check returns nil, at most for limit;
// then it returns what check said last.
func Eventually(limit time.Duration, check func() error) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not so within %v: %w", limit, err)
		}
		<-tick.C
	}
}

// Steadily looks again and again for the whole of span and returns the first
// error check gives: for things that must not happen.
func Steadily(span time.Duration, check func() error) error {
	deadline := time.Now().Add(span)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		if err := check(); err != nil {
			return err
		}
		<-tick.C
	}
	return nil
}
