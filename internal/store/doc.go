// Package store keeps the daemon's state in one file, a bbolt database.
//
// Nouns: a Store is the open file, keys are strings with a prefix per owner ("peer/", "attach/"), values are bytes
// their owners understand; a Save is one change. What Put, Delete and Update return nil for has reached the disk.
//
// Concurrency: a Store may be used by many goroutines; writes happen one at a time. The file belongs to one process:
// a second Open fails after a short wait.
//
// What does not belong here: the meaning of any value, and caches.
package store
