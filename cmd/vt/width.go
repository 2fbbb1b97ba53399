package main

import (
	"sort"
	"strings"
	"unicode"
)

//go:generate sh -c "go run width_gen.go EastAsianWidth.txt > width_table.go"

// runeCells is how many cells of a terminal a character takes.
func runeCells(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	i := sort.Search(len(wideRanges), func(i int) bool { return wideRanges[i][1] >= r })
	if i < len(wideRanges) && wideRanges[i][0] <= r {
		return 2
	}
	return 1
}

// cells is how many cells a line takes. Escape sequences take none.
func cells(line string) int {
	n := 0
	eachCell(line, func(_, width int) bool { n += width; return true })
	return n
}

// cut shortens a line to the given cells, with "…" at its end if something is missing.
func cut(line string, most int) string {
	if cells(line) <= most {
		return line
	}
	n, end := 0, 0
	eachCell(line, func(at, width int) bool {
		if n+width > most-1 {
			return false
		}
		n, end = n+width, at
		return true
	})
	kept := line[:end]
	if strings.Contains(kept, "\x1b") {
		kept += "\x1b[0m"
	}
	return kept + "…"
}

// eachCell calls f for each character of a line with its end and its width, until f
// returns false.
func eachCell(line string, f func(end, width int) bool) {
	inSequence := false
	for at, r := range line {
		width := runeCells(r)
		switch {
		case r == '\x1b':
			inSequence, width = true, 0
		case inSequence:
			inSequence, width = !unicode.IsLetter(r), 0
		}
		if !f(at+len(string(r)), width) {
			return
		}
	}
}
