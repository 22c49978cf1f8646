// Package enginelist is what edges to engines have in common: asking about many containers at once.
//
// Running may be called concurrently; all that it starts has ended when it returns. What an engine's calls look like belongs
// to its edge.
package enginelist
