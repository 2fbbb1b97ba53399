package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An emulator is a terminal of a given size: lines with cells, of which the last rows are
// on the screen. It wraps and, when it is made narrower, wraps the lines that are there.
type emulator struct {
	cols, rows int
	lines      [][]string // "" is the right half of a wide character
	row, col   int
	noWrap     bool
	errs       []string
	onWrite    func(n int) // after the n-th write
	writes     int
}

func (e *emulator) Stat() (os.FileInfo, error) { return charDevice{}, nil }

func (e *emulator) Size() (cols, rows int) { return e.cols, e.rows }

func (e *emulator) line() *[]string {
	for len(e.lines) <= e.row {
		e.lines = append(e.lines, nil)
	}
	return &e.lines[e.row]
}

func (e *emulator) Write(p []byte) (int, error) {
	for s := string(p); s != ""; {
		if m := escape(s); m != nil {
			e.sequence(m)
			s = s[len(m[0]):]
			continue
		}
		r := []rune(s)[0]
		s = s[len(string(r)):]
		e.put(r)
	}
	e.writes++
	if e.onWrite != nil {
		e.onWrite(e.writes)
	}
	return len(p), nil
}

func (e *emulator) sequence(m []string) {
	line := e.line()
	switch {
	case m[0] == "\x1b[?7l":
		e.noWrap = true
	case m[0] == "\x1b[?7h":
		e.noWrap = false
	case m[2] == "C":
		e.col = min(e.col+1, e.cols-1)
	case m[2] == "A":
		n := 0
		fmt.Sscan(m[1], &n)
		e.row = max(e.row-n, len(e.lines)-e.rows, 0)
	case m[2] == "J" && e.col == 0 && e.row == max(0, len(e.lines)-e.rows) && len(*line) > 0:
		e.row = len(e.lines) // tmux keeps a whole screen that is cleared, above it
		e.line()
	case m[2] == "J":
		*line = (*line)[:min(e.col, len(*line))]
		e.lines = e.lines[:e.row+1]
	case m[2] == "K":
		at := e.col
		if at == e.cols { // the cursor is still on the last character
			at--
		}
		*line = (*line)[:min(at, len(*line))]
	}
}

func (e *emulator) put(r rune) {
	line := e.line()
	switch width := runeCells(r); {
	case r == '\r':
		e.col = 0
	case r == '\n':
		e.row, e.col = e.row+1, 0
		e.line()
	case width == 0:
		if e.col > 0 {
			(*line)[e.col-1] += string(r)
		}
	default:
		if e.col+width > e.cols {
			if e.noWrap {
				e.errs = append(e.errs, fmt.Sprintf("%q is cut at %d columns", strings.Join(*line, ""), e.cols))
				return
			}
			e.row, e.col = e.row+1, 0
			line = e.line()
		}
		for len(*line) < e.col+width {
			*line = append(*line, " ")
		}
		(*line)[e.col] = string(r)
		if width == 2 {
			(*line)[e.col+1] = ""
		}
		e.col += width
	}
}

func (e *emulator) resize(cols, rows int) {
	var lines [][]string
	for i, line := range e.lines {
		if i == e.row {
			e.row = len(lines)
		}
		for len(line) > cols {
			lines, line = append(lines, line[:cols]), line[cols:]
		}
		lines = append(lines, line)
	}
	e.lines, e.cols, e.rows = lines, cols, rows
}

func (e *emulator) text() string {
	var b strings.Builder
	for _, line := range e.lines {
		b.WriteString(strings.TrimRight(strings.Join(line, ""), " ") + "\n")
	}
	return b.String()
}

// The live block fits its screen whatever its size, also where that changes, and leaves no
// line behind.
func TestLiveViewFitsTheScreen(t *testing.T) {
	wide := []string{"動画の翻訳一", "🎬🎬🎬", "संस्कृतम्", strings.Repeat("漢", 30), "plain", "ﬁlm", "a\u0301e\u0301", "한국어 비디오"}
	for _, tt := range []struct {
		name       string
		cols, rows int
		ids        []string
		onWrite    func(e *emulator, n int)
	}{
		{name: "8 jobs on 8 rows", cols: 80, rows: 8},
		{name: "8 jobs on 9 rows", cols: 80, rows: 9},
		{name: "8 jobs on 2 rows", cols: 80, rows: 2},
		{name: "8 jobs on 1 row", cols: 80, rows: 1},
		{name: "20 columns", cols: 20, rows: 24},
		{name: "2 columns", cols: 2, rows: 24},
		{name: "wide characters", cols: 80, rows: 24, ids: wide},
		{name: "wide characters on a narrow screen", cols: 37, rows: 24, ids: wide},
		{name: "narrower", cols: 120, rows: 40, onWrite: func(e *emulator, n int) { e.resize(max(30, 120-n), 40) }},
		{name: "wider", cols: 40, rows: 24, onWrite: func(e *emulator, n int) { e.resize(40+n, 24) }},
		{name: "lower", cols: 100, rows: 24, onWrite: func(e *emulator, n int) { e.resize(100, max(5, 24-n)) }},
		{name: "to and fro", cols: 100, rows: 24, ids: wide, onWrite: func(e *emulator, n int) { e.resize(40+n*37%70, 24) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &emulator{cols: tt.cols, rows: tt.rows}
				ids := tt.ids
				if ids == nil {
					for i := range 8 {
						ids = append(ids, fmt.Sprint("job-", i))
					}
				}
				block := 0
				e.onWrite = func(n int) {
					if on := strings.Count(e.text(), "pending"); e.cols > 60 {
						block = max(block, on)
					}
					if tt.onWrite != nil && n%3 == 0 {
						tt.onWrite(e, n)
					}
				}
				args := append([]string{"wait", "-duration", "uniform:5s-20s", "-every", "1s", "-fault", "503:10%"}, ids...)
				r := call{args: args, stdout: e, env: map[string]string{"TERM": "xterm"}}.run()
				wantCode(t, r, exitOK)
				text := e.text()
				if tt.name == "lower" { // what has scrolled out of a screen is out of reach
					text = strings.Join(strings.SplitAfter(text, "\n")[max(0, len(e.lines)-e.rows):], "")
				}
				for _, err := range e.errs {
					t.Error(err)
				}
				if strings.Contains(text, "pending") || strings.Contains(text, "waiting") || strings.Contains(text, " of 8 done") {
					t.Errorf("lines of the block are left:\n%s", text)
				}
				if n := strings.Count(strings.ReplaceAll(text, "\n", ""), "completed"); n != 9 && tt.name != "lower" {
					t.Errorf("%d lines with completed, want those of 8 jobs and the summary:\n%s", n, text)
				}
				if most := min(tt.rows-1, 8); tt.onWrite == nil && block > most {
					t.Errorf("%d live lines at a time on %d rows", block, tt.rows)
				}
			})
		})
	}
}

func TestCells(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "abc": 3, "漢字": 4, "🎬": 2, "e\u0301": 1, "ｆ": 2, "한": 2, "…": 1, "×": 1, "\x1b[32mok\x1b[0m": 2, "ünïcødé": 7, "\u2764": 1, "한\u1100": 4,
	} {
		if got := cells(text); got != want {
			t.Errorf("%q: %d cells, want %d", text, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		text string
		most int
		want string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"漢字漢字", 5, "漢字…"}, {"漢字漢字", 4, "漢…"}, {"漢字", 4, "漢字"},
		{"a\u0301b\u0301c\u0301d", 3, "a\u0301b\u0301…"}, {"\x1b[32mcompleted\x1b[0m", 4, "\x1b[32mcom\x1b[0m…"}, {"abc", 0, "…"},
	} {
		if got := cut(tt.text, tt.most); got != tt.want {
			t.Errorf("%q to %d: %q, want %q", tt.text, tt.most, got, tt.want)
		}
	}
}

func TestStatusLineOfManyJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &emulator{cols: 80, rows: 24}
		first := ""
		e.onWrite = func(n int) {
			if n == 6 {
				first = e.text()
			}
		}
		r := call{args: []string{"wait"}, stdout: e, env: map[string]string{"TERM": "xterm"}}.run()
		wantCode(t, r, exitOK)
		lines := strings.Split(strings.TrimSpace(first), "\n")
		last := lines[len(lines)-1]
		if !strings.HasPrefix(last, "0 of 24 done, about ") || !strings.HasSuffix(last, " s to go") || strings.Contains(first, "more") {
			t.Errorf("after a second:\n%s", first)
		}
	})
}

func TestRoughly(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "1 s", 400 * time.Millisecond: "1 s", 89 * time.Second: "89 s", 90 * time.Second: "2 min", 4 * time.Minute: "4 min", 100 * time.Minute: "2 h",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
