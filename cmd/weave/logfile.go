package main

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const logLimit = 10 << 20 // bytes after which weave.log becomes weave.log.1

// logFile is a log bounded in size: when it is full it takes the place of the one before.
type logFile struct {
	path    string
	limit   int64
	capture bool // the process's stderr goes here as well: what the Go runtime says of a crash

	mu   sync.Mutex
	file *os.File
	size int64
}

func openLog(path string, limit int64, capture bool) (*logFile, error) {
	l := &logFile{path: path, limit: limit, capture: capture}
	return l, l.open()
}

// open is called with mu held, or before anybody else knows l.
func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	if l.capture {
		if err := unix.Dup3(int(f.Fd()), unix.Stderr, 0); err != nil {
			f.Close()
			return err
		}
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write appends one record.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(p)) > l.limit {
		l.rotate()
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

// rotate begins a new file. When that fails the old one goes on: a log too long is better than none.
func (l *logFile) rotate() {
	old := l.file
	if os.Rename(l.path, l.path+".1") != nil {
		return
	}
	if l.open() == nil {
		old.Close()
	}
}

// Close ends the log.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
