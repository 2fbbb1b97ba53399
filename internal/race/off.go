//go:build !race

// Package race lets a test do less under the race detector, which is slow.
package race

// Enabled reports whether the race detector is on.
const Enabled = false
