// Package leak finds the goroutines that a package's tests have left behind.
package leak

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"
)

// patience is how long goroutines that are about to end may take. It is spent in
// full only where one does not end.
var patience = 10 * time.Second

// Main runs the tests of a package, for use as its TestMain, and ends the
// process: with the code of the tests, or with 1 and the stacks on standard error if
// they pass and leave goroutines behind.
func Main(m interface{ Run() int }) { os.Exit(Check(m.Run())) }

// Check is for a TestMain that has more to do: it turns the code that m.Run
// returned into the one to exit with. It does not look for goroutines where tests
// have failed, as a test that stops in the middle may well leave some.
func Check(code int) int { return check(code, os.Stderr, patience) }

func check(code int, out io.Writer, patience time.Duration) int {
	if code != 0 {
		return code
	}
	left := await(patience)
	if len(left) == 0 {
		return 0
	}
	fmt.Fprintf(out, "The tests passed, but %d of their goroutines did not end within %v:\n\n%s\n",
		len(left), patience, strings.Join(left, "\n\n"))
	return 1
}

// await waits until no goroutine is left, and returns the stacks of those that do
// not end.
func await(patience time.Duration) []string {
	pause := time.Millisecond
	for limit := time.Now().Add(patience); ; pause = min(2*pause, 100*time.Millisecond) {
		// Connections that wait for further use hold two goroutines each. A pool
		// that a test made ends with the test's server; this one is the process's.
		http.DefaultClient.CloseIdleConnections()
		left := ours(stacks())
		if len(left) == 0 || time.Now().After(limit) {
			return left
		}
		time.Sleep(pause)
	}
}

// stacks returns the stack of every goroutine but the one that calls it.
func stacks() []string {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			return strings.Split(strings.TrimSpace(string(buf[:n])), "\n\n")[1:]
		}
		buf = make([]byte, 2*len(buf))
	}
}

// ours returns the stacks that are not of goroutines which live as long as the
// process.
func ours(stacks []string) (left []string) {
	for _, s := range stacks {
		if !everlasting(s) {
			left = append(left, s)
		}
	}
	return left
}

func everlasting(stack string) bool {
	_, creator, _ := strings.Cut(stack, "\ncreated by ")
	for _, prefix := range [...]string{
		// The first signal.Notify of a process starts a goroutine for good.
		"os/signal.Notify.func1.",
		// A fuzzing process reads its orders until it is ended.
		"internal/fuzz.",
	} {
		if strings.HasPrefix(creator, prefix) {
			return true
		}
	}
	return false
}
