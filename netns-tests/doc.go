// Package netnstests tries the built weave binary on the real kernel, as a
// user would: hosts and containers are network namespaces (package lab), every
// step is a command line, every check looks at what a user can see.
//
//	go test ./netns-tests                     builds weave and runs everything
//	WEAVE_BIN=bin/weave go test ./netns-tests -run TestTraffic -v
//	WEAVE_LAB_RACE=1 go test ./netns-tests    with the race detector in the daemons too
//
// Neither root nor a network is needed, only user namespaces and a
// /dev/net/tun that may be opened; a test that lacks either is skipped and says
// what to do.
package netnstests
