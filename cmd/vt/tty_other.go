//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

// The size of a terminal and its echo have no portable interface.

func windowSize(uintptr) (cols, rows int) { return 0, 0 }

func stopEcho(uintptr) {}

func restoreEcho() {}
