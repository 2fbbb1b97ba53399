//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

func ioctl(fd, request uintptr, arg unsafe.Pointer) bool {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg))
	return errno == 0
}

// windowSize returns the size of the terminal at fd, or zeros.
func windowSize(fd uintptr) (cols, rows int) {
	var size struct{ rows, cols, width, height uint16 }
	if !ioctl(fd, syscall.TIOCGWINSZ, unsafe.Pointer(&size)) {
		return 0, 0
	}
	return int(size.cols), int(size.rows)
}

// savedEcho is the terminal whose echo is off, with its former settings.
var savedEcho atomic.Pointer[struct {
	fd    uintptr
	modes syscall.Termios
}]

// stopEcho makes the terminal at fd show no typed keys until restoreEcho. A process in
// the background would be stopped for trying, and leaves it as it is.
func stopEcho(fd uintptr) {
	var group int32
	if !ioctl(fd, syscall.TIOCGPGRP, unsafe.Pointer(&group)) || int(group) != syscall.Getpgrp() {
		return
	}
	var modes syscall.Termios
	if !ioctl(fd, getTermios, unsafe.Pointer(&modes)) {
		return
	}
	quiet := modes
	quiet.Lflag &^= syscall.ECHO
	if ioctl(fd, setTermios, unsafe.Pointer(&quiet)) {
		savedEcho.Store(&struct {
			fd    uintptr
			modes syscall.Termios
		}{fd, modes})
	}
}

func restoreEcho() {
	if saved := savedEcho.Swap(nil); saved != nil {
		ioctl(saved.fd, setTermios, unsafe.Pointer(&saved.modes))
	}
}
