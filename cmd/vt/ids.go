package main

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strings"
)

// jobIDs yields the ids given as arguments, with those of standard input in the
// place of "-".
func jobIDs(args []string, stdin io.Reader, err *error) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i, id := range args {
			switch {
			case id == "-":
				if !stdinIDs(stdin, err, yield) {
					return
				}
				continue
			case id != "" && strings.TrimSpace(id) == "":
				*err = fmt.Errorf("job %d: the id %q is only spaces", i+1, id)
				return
			}
			if !yield(id) {
				return
			}
		}
	}
}

// stdinIDs yields the lines of standard input, without the spaces around them. Empty
// lines are skipped.
func stdinIDs(stdin io.Reader, err *error, yield func(string) bool) bool {
	lines := bufio.NewScanner(stdin)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSuffix(lines.Text(), "\r") // the scanner takes one off; a file may have two
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		id := strings.TrimSpace(line)
		if id == "" {
			if line != "" {
				*err = fmt.Errorf("standard input, line %d: the id %q is only spaces", n, line)
				return false
			}
			continue
		}
		if !yield(id) {
			return false
		}
	}
	if lines.Err() != nil {
		*err = fmt.Errorf("standard input, line %d: %w", n+1, lines.Err())
		return false
	}
	return true
}
