//go:build !race

package vtclient_test

const raceEnabled = false
