package leak

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("LEAK_TEST") == "leaks" {
		patience = 50 * time.Millisecond
	}
	Main(m)
}

//go:noinline
func forgotten(until <-chan bool) { <-until }

func TestCheck(t *testing.T) {
	// The test itself and its runner are goroutines too: what counts is what comes on top of
	// them.
	count := func(report string) int { return strings.Count(report, "leak.forgotten(") }

	until := make(chan bool)
	for range 3 {
		go forgotten(until)
	}
	var report strings.Builder
	if code := check(0, &report, 20*time.Millisecond); code != 1 || count(report.String()) != 3 {
		t.Errorf("three forgotten: code %d and\n%s", code, report.String())
	}
	report.Reset()
	if code := check(2, &report, time.Hour); code != 2 || report.Len() > 0 {
		t.Errorf("after tests that failed: code %d and\n%s", code, report.String())
	}
	close(until)
	for _, s := range await(20 * time.Millisecond) {
		if count(s) != 0 {
			t.Errorf("not forgotten any more:\n%s", s)
		}
	}
}

// The first signal.Notify starts a goroutine that never ends.
func TestSignalHandlingIsNoLeak(t *testing.T) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
	defer signal.Stop(c)
	runtime.Gosched()
	for _, s := range ours(stacks()) {
		if strings.Contains(s, "os/signal.") {
			t.Error(s)
		}
	}
}

func TestFuzzingIsNoLeak(t *testing.T) {
	const stack = `goroutine 36 [IO wait]:
os.(*File).Read(0xc00006a0a8, {0xc000200000, 0x200, 0x200})
	/go/src/os/file.go:124 +0x52
created by internal/fuzz.(*contextReader).Read in goroutine 21
	/go/src/internal/fuzz/worker.go:1183 +0xbd`
	if left := ours([]string{stack, strings.ReplaceAll(stack, "internal/fuzz", "example.com/internal/fuzz")}); len(left) != 1 {
		t.Errorf("%d left of two, one of which is ours", len(left))
	}
}

// TestLeaking is what TestMainEndsTheProcess runs in a process of its own.
func TestLeaking(t *testing.T) {
	switch os.Getenv("LEAK_TEST") {
	case "late":
		go func() {
			for range 1000 {
				runtime.Gosched()
			}
		}()
	case "leaks":
		go forgotten(make(chan bool))
	case "fails":
		go forgotten(make(chan bool))
		t.Error("on purpose")
	default:
		t.Skip("only in a process of its own")
	}
}

func TestMainEndsTheProcess(t *testing.T) {
	for _, tt := range []struct {
		how      string
		code     int
		reported bool
	}{
		{"late", 0, false}, // one that takes a moment to end is no leak
		{"leaks", 1, true},
		{"fails", 1, false},
	} {
		t.Run(tt.how, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestLeaking$")
			cmd.Env = append(os.Environ(), "LEAK_TEST="+tt.how)
			out, err := cmd.CombinedOutput()
			code := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				code = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			if code != tt.code || strings.Contains(string(out), "leak.forgotten(") != tt.reported {
				t.Errorf("exit code %d and\n%s", code, out)
			}
		})
	}
}
