package main

import (
	"io"
	"os"
	"sync"
)

// A checkedWriter remembers the first error of its writer and calls failed then.
// Later writes are dropped.
type checkedWriter struct {
	w      io.Writer
	failed func()

	mu  sync.Mutex
	err error
}

func newCheckedWriter(w io.Writer, failed func()) *checkedWriter {
	return &checkedWriter{w: w, failed: failed}
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		var n int
		if n, c.err = c.w.Write(p); c.err == nil {
			return n, nil
		}
		c.failed()
	}
	return 0, c.err
}

func (c *checkedWriter) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// isTerminal reports whether v is a character device, as a terminal is.
func isTerminal(v any) bool {
	if c, ok := v.(*checkedWriter); ok {
		v = c.w
	}
	f, ok := v.(interface{ Stat() (os.FileInfo, error) })
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// screenSize returns the columns and rows of a terminal, 80 and 24 where they are
// not known.
func screenSize(v any) (cols, rows int) {
	if c, ok := v.(*checkedWriter); ok {
		v = c.w
	}
	switch t := v.(type) {
	case interface{ Size() (cols, rows int) }:
		cols, rows = t.Size()
	case interface{ Fd() uintptr }:
		cols, rows = windowSize(t.Fd())
	}
	if cols <= 0 || rows <= 0 {
		return 80, 24
	}
	return cols, rows
}
