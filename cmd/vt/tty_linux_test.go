package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// pseudoTerminal returns both ends of a terminal of the given size.
func pseudoTerminal(t *testing.T, cols, rows uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	var number, unlocked int32
	if !ioctl(master.Fd(), syscall.TIOCGPTN, unsafe.Pointer(&number)) || !ioctl(master.Fd(), syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked)) {
		t.Skip("no pseudo-terminal")
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	size := [4]uint16{rows, cols}
	if !ioctl(slave.Fd(), syscall.TIOCSWINSZ, unsafe.Pointer(&size)) {
		t.Fatal("the size cannot be set")
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return master, slave
}

func TestWindowSize(t *testing.T) {
	_, slave := pseudoTerminal(t, 123, 45)
	if cols, rows := screenSize(slave); cols != 123 || rows != 45 {
		t.Errorf("%d×%d, want 123×45", cols, rows)
	}
	if cols, rows := screenSize(new(bytes.Buffer)); cols != 80 || rows != 24 {
		t.Errorf("of no terminal: %d×%d, want 80×24", cols, rows)
	}
}

// Keys that are typed during a wait do not show, Ctrl-C ends it without a torn line, and the
// terminal is then as it was.
func TestProcessTypedKeysAndCtrlC(t *testing.T) {
	path := binary(t)
	master, slave := pseudoTerminal(t, 80, 24)
	cmd := exec.Command(path, "wait", "-duration", "1h", "-every", "1h", "-fault", "none", "film")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} // so that Ctrl-C is a signal to it
	before := echoes(t, slave)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e := &emulator{cols: 80, rows: 24}
	shown := make(chan string, 1000)
	go func() {
		defer close(shown)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			e.Write([]byte(strings.ReplaceAll(string(buf[:n]), "\r\n", "\n")))
			shown <- e.text()
		}
	}()
	until := func(pattern string) {
		t.Helper()
		part := regexp.MustCompile(pattern)
		limit := time.After(patience)
		for {
			select {
			case text, ok := <-shown:
				if !ok {
					t.Fatalf("it ended without %q", pattern)
				}
				if part.MatchString(text) {
					return
				}
			case <-limit:
				t.Fatalf("no %q within %v", pattern, patience)
			}
		}
	}
	until(`film  \[`)
	if echoes(t, slave) {
		t.Error("typed keys are shown")
	}
	io.WriteString(master, "typed\n\nkeys")
	until(` [1-9]\d*\.\ds `) // some frames later
	io.WriteString(master, "\x03")
	until("1 interrupted")
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitInterrupted {
		t.Error(err)
	}
	if !before || !echoes(t, slave) {
		t.Error("the terminal does not show typed keys any more")
	}
	slave.Close()
	master.Close()
	for range shown {
	}
	text := e.text()
	if strings.Contains(text, "typed") || strings.Contains(text, "keys") || strings.Contains(text, "^C") || strings.Count(text, "film") != 1 {
		t.Errorf("the screen shows\n%s", text)
	}
}

// echoes reports whether a terminal shows typed keys.
func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	var modes syscall.Termios
	if !ioctl(tty.Fd(), getTermios, unsafe.Pointer(&modes)) {
		t.Fatal("the settings cannot be read")
	}
	return modes.Lflag&syscall.ECHO != 0
}
