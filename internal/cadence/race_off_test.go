//go:build !race

package cadence

const raceEnabled = false
