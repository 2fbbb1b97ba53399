// Package benchmarks measures vtclient and its peers on the same work, in one run. It has no
// code of its own, only benchmarks; README.md beside it has what is measured and how, and
//
//	go run ./run
//
// from this folder runs them in rounds and writes RESULTS.md and the charts.
package benchmarks
