package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

// demonstration runs one in virtual time and returns its comparison and how long it took.
func demonstration(t *testing.T, seed int) (*comparison, float64) {
	t.Helper()
	var last summaryEvent
	synctest.Test(t, func(t *testing.T) {
		r := vt("wait", "-json", "-seed", strconv.Itoa(seed))
		wantCode(t, r, exitOK)
		lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Comparison == nil {
			t.Fatalf("no comparison: %v, %s", err, lines[len(lines)-1])
		}
	})
	return last.Comparison, last.Elapsed
}

// The claim of the demonstration: at what a request is worth there, the cadence costs less
// than any loop with a fixed interval, whatever the seed.
func TestDemoWinsWhateverTheSeed(t *testing.T) {
	wins, ratio, longest := 0, 0.0, 0.0
	for seed := range 100 {
		c, elapsed := demonstration(t, seed)
		if c.Client.Cost < c.Loop.Cost {
			wins++
		}
		ratio += c.Loop.Cost / c.Client.Cost / 100
		longest = max(longest, elapsed)
	}
	t.Logf("%d of 100 won; the loop costs %.2f times as much on average; the longest took %.1f s", wins, ratio, longest)
	if wins < 95 || longest > 12 {
		t.Errorf("%d of 100 won, want 95; the longest took %.1f s, want at most 12", wins, longest)
	}
}

func TestDemoComparesOnTheTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := vt("wait")
		wantCode(t, r, exitOK)
		for _, part := range []string{"has learnt from 200 such jobs", "24 completed; ", "requests/job late on average", "\nvtclient  ", "\nthe best loop, every ", "requests × 0.1s"} {
			if !strings.Contains(r.stdout, part) {
				t.Errorf("no %q in\n%s", part, r.stdout)
			}
		}
		for line := range strings.Lines(r.stdout[strings.Index(r.stdout, "requests/job"):]) {
			if n := cells(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%d cells: %s", n, line)
			}
		}
	})
}

// Only jobs of the demonstration are compared: the durations of others are a guess, or
// chosen so that a loop fits them.
func TestOnlyTheDemoCompares(t *testing.T) {
	for name, args := range map[string]string{
		"jobs that are named":   "a b",
		"durations of the user": "-duration 5s",
		"faults of the user":    "-fault 503:20%",
		"a fixed interval":      "-every 2s",
		"a worth of the user":   "-cost 1s",
		"webhooks":              "-api heygen",
		"time is up":            "-timeout 3s",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if r := vt(append([]string{"wait"}, strings.Fields(args)...)...); strings.Contains(r.stdout, "loop") {
					t.Errorf("there is a comparison:\n%s", r.stdout)
				}
			})
		})
	}
}
