package vtclient_test

import (
	"testing"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/yardstick"
)

// What the cadence costs is measured in internal/cadence; here it is seen from outside.
type (
	dist    = yardstick.Dist
	optimum = yardstick.Optimum
)

var lognormal, uniform, mix, solve = yardstick.LogNormal, yardstick.Uniform, yardstick.Mixture, yardstick.Solve

// follow waits for a job of the duration x seconds from its start with no first check, as
// a client does.
func follow(b vtclient.Learner, x float64) {
	var at vtclient.Attempt
	for {
		d, _ := b.Next(at)
		at.Elapsed += d
		at.Number++
		if at.Elapsed.Seconds() >= x {
			b.Learn(vtclient.Completion{PendingAt: at.PendingAt, DoneBy: at.Elapsed})
			return
		}
		at.PendingAt = at.Elapsed
	}
}

// noRace skips what simulates in single goroutines, where the race detector
// finds nothing and takes ten times as long.
func noRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("nothing here for the race detector")
	}
}
