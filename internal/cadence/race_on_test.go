//go:build race

package cadence

const raceEnabled = true
