package main

import (
	"fmt"
	"io"
)

// cpio writes an archive as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst): per file a
// header of "070701" and thirteen numbers of eight hexadecimal digits, its name, its content, each padded to four bytes.
type cpio struct {
	out  io.Writer
	next int
	err  error
}

func (c *cpio) add(name string, mode int, content []byte) {
	c.next++
	header := "070701"
	for _, n := range []int{c.next, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0} {
		header += fmt.Sprintf("%08X", n)
	}
	c.write([]byte(header + name + "\x00"))
	c.write(make([]byte, pad(len(header)+len(name)+1)))
	c.write(content)
	c.write(make([]byte, pad(len(content))))
}

func (c *cpio) end() { c.add("TRAILER!!!", 0, nil) }

func (c *cpio) write(b []byte) {
	if c.err == nil {
		_, c.err = c.out.Write(b)
	}
}

func pad(n int) int { return -n & 3 }
