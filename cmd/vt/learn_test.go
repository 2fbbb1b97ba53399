package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// What one run has learnt serves the next: it shows how long jobs take from the
// first look on.
func TestWaitLearns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "learnt")
	args := []string{"wait", "-cost", "1s", "-learn", file, "-duration", "uniform:50s-70s", "-fault", "none"}
	for i := range 12 {
		args = append(args, fmt.Sprintf("job-%d", i))
	}
	synctest.Test(t, func(t *testing.T) {
		first := vt(args...)
		wantCode(t, first, exitOK)
		if strings.Contains(strings.SplitAfter(first.stdout, "completed")[0], "to go") {
			t.Errorf("an estimate before any job was over:\n%s", first.stdout)
		}
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
		second := vt(args...)
		wantCode(t, second, exitOK)
		// Without experience it would be two minutes and more. With that of twelve
		// jobs, in 150 runs it was 57.5 s ± 2.3 s and 68 s ± 5 s.
		estimate := regexp.MustCompile(`pending, 1 request, about (\S+) to go, 9 of 10 within (\S+)\n`).FindStringSubmatch(second.stdout)
		if estimate == nil {
			t.Fatalf("no estimate at the first look:\n%s", second.stdout)
		}
		half, err1 := time.ParseDuration(estimate[1])
		most, err2 := time.ParseDuration(estimate[2])
		if err1 != nil || err2 != nil || half < 40*time.Second || half > 80*time.Second || most < half || most > 110*time.Second {
			t.Errorf("estimates for jobs of 50 to 70 s: %v", estimate)
		}
	})
}

// What is learnt is by the age of jobs, so with -started an estimate is, too.
func TestEstimateGoesByTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked vtclient.Attempt
		b := newBoard(&plain{w: io.Discard}, false)
		b.started = time.Now().Add(-time.Hour)
		b.forecast = func(a vtclient.Attempt) vtclient.Forecast { asked = a; return vtclient.Forecast{} }
		b.add("film")
		time.Sleep(time.Minute)
		b.progress(vtclient.Status{JobID: "film", State: vtclient.StatePending, CheckedAt: time.Now()})
		time.Sleep(time.Minute)
		if b.jobs[0].estimate(); asked.PendingAt != 61*time.Minute || asked.Elapsed != 62*time.Minute {
			t.Errorf("asked about %+v", asked)
		}
	})
}

func TestWaitRefusesAFileThatHoldsSomethingElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "learnt")
	if err := os.WriteFile(file, []byte("durations: many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := vt("wait", "-learn", file)
	wantCode(t, r, exitError)
	if !strings.Contains(r.stderr, file) {
		t.Errorf("stderr does not name the file: %s", r.stderr)
	}
	if text, _ := os.ReadFile(file); string(text) != "durations: many\n" {
		t.Errorf("the file was written over: %q", text)
	}
}
