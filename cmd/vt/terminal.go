package main

import (
	"bytes"
	"fmt"
	"io"
)

// A terminal shows a block of live lines, one for each job that goes on.
// Lines that stay (a job's end, a fault) scroll up above the block.
type terminal struct {
	w     io.Writer
	color bool
	size  func() (cols, rows int)
	cols  int   // of the screen when it was last drawn
	block []int // the cells of each line of the block on the screen
	stay  []string
	ended []*job
}

// liveLines bounds the lines of the block on any screen.
const liveLines = 10

func (t *terminal) note(n note) { t.stay = append(t.stay, clean(n.text)) }

func (t *terminal) progress(*job) {}

func (t *terminal) hinted(*job) {}

func (t *terminal) fault(f fault) { t.stay = append(t.stay, f.String()) }

func (t *terminal) done(j *job) { t.ended = append(t.ended, j) }

func (t *terminal) draw(b *board) {
	var buf bytes.Buffer
	cols, rows := t.size()
	if n := min(t.height(cols), rows-1); n > 0 {
		fmt.Fprintf(&buf, "\x1b[%dA", n)
	}
	buf.WriteByte('\r') // keys typed before the echo stopped may have moved the cursor
	if len(t.stay)+len(t.ended) > 0 || len(t.block) > 0 && cols != t.cols {
		// The line, and what is behind its first cell: tmux would keep a whole screen that
		// is cleared from its very beginning.
		buf.WriteString("\x1b[K\x1b[C\x1b[J\r")
	}
	t.cols = cols
	width := nameColumn(b.jobs)
	for _, line := range t.stay {
		buf.WriteString(line + "\n")
	}
	for _, j := range t.ended {
		buf.WriteString(j.line(width, t.paint) + "\n")
	}
	t.stay, t.ended, t.block = nil, nil, nil
	// A character whose width the terminal takes for another than we do must not wrap
	// the line, or the block would have more lines than we count.
	buf.WriteString("\x1b[?7l")
	put := func(line string) {
		line = cut(line, cols-1)
		t.block = append(t.block, cells(line))
		buf.WriteString(line + "\x1b[K\n")
	}
	room := min(liveLines, rows-1)
	moving := b.transfers.moving()
	whole := b.open+len(moving) <= room
	if !whole {
		room = min(liveLines, rows-2)
	}
	for _, j := range b.jobs {
		if j.ended.IsZero() && len(t.block) < room {
			put(j.line(width, t.paint))
		}
	}
	for _, m := range moving {
		if len(t.block) < room {
			put(m.line(width))
		}
	}
	if !whole && rows > 1 {
		put(b.status())
	}
	buf.WriteString("\x1b[J\x1b[?7h")
	t.w.Write(buf.Bytes())
}

// height is how many rows the block takes on a screen of that many columns. A terminal
// that was made narrower has wrapped its lines.
func (t *terminal) height(cols int) (rows int) {
	for _, n := range t.block {
		rows += max(1, (n+cols-1)/cols)
	}
	return rows
}

func (t *terminal) summary(b *board, s *summary) {
	t.draw(b)
	io.WriteString(t.w, s.text())
}

func (t *terminal) paint(word string) string {
	code := ""
	switch outcome(word) {
	case completed:
		code = "32"
	case failed, errored:
		code = "31"
	case interrupted, timeout:
		code = "33"
	}
	if !t.color || code == "" {
		return word
	}
	return "\x1b[" + code + "m" + word + "\x1b[0m"
}
