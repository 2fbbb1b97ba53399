// Package unit finds durations that were given as numbers without a unit: the constant
// 10 is a time.Duration of ten nanoseconds, where ten seconds were meant.
package unit

import (
	"fmt"
	"time"
)

// Missing returns what to expect in the place of d if d is above zero and below least, the
// shortest duration that makes sense where d was given; otherwise it returns "".
func Missing(d, least time.Duration) (want string) {
	if d <= 0 || d >= least {
		return ""
	}
	unit := "Second"
	if d >= 1000 && d%3600 != 0 { // more likely a number of milliseconds than of seconds
		unit = "Millisecond"
	}
	return fmt.Sprintf("at least %v; a number without a unit is in nanoseconds: did you mean %d*time.%s?", least, int64(d), unit)
}
