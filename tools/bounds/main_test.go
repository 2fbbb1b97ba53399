package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a folder with the files given by name and text.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// at returns n times s.
func at(n int, s string) string { return strings.Repeat(s, n) }

func TestBounds(t *testing.T) {
	const head = "package p\n"
	for _, tt := range []struct {
		name       string
		text       string
		exports    string
		exceptions string
		want       string // the findings; "" if all is well
	}{
		{name: "a file of 400 lines", text: head + at(399, "\n")},
		{name: "a file of 401 lines", text: head + at(400, "\n"), want: "x.go lines: 401, at most 400\n"},
		{name: "a function of 60 lines", text: head + "func f() {" + at(59, "\n") + "}\n"},
		{name: "a function of 61 lines", text: head + "func f() {" + at(60, "\n") + "}\n", want: "x.go f lines: 61, at most 60\n"},
		{name: "a complexity of 15", text: head + "func f(a bool) {" + at(14, "if a {}\n") + "}\n"},
		{name: "a complexity of 16", text: head + "func f(a bool) {" + at(14, "if a {}\n") + "_ = a && a }\n", want: "x.go f complexity: 16, at most 15\n"},
		{name: "25 methods", text: head + "type T[K any] int\n" + at(25, "func (t *T[K]) f() {}\n")},
		{name: "26 methods", text: head + "type T[K any] int\n" + at(25, "func (t *T[K]) f() {}\n") + "func (T[K]) f() {}\n", want: ". T methods: 26, at most 25\n"},
		{name: "as many exports as allowed", exports: "4", text: head + "type T int\nfunc (T) M() {}\nconst C, d = 1, 2\nvar V = 1\nfunc F() {}\n", want: ""},
		{name: "one more", exports: "3", text: head + "type T int\nfunc (T) M() {}\nconst C, d = 1, 2\nvar V = 1\nfunc F() {}\n", want: ". exports: 4, at most 3\n"},
		{name: "an exception", text: head + at(500, "\n"), exceptions: "# why\n\nx.go lines\n"},
		{name: "an exception of another kind", text: head + at(500, "\n"), exceptions: "x.go f lines\n",
			want: "x.go lines: 501, at most 400\nx.go f lines: no exception is needed any more: remove it\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, map[string]string{"x.go": tt.text, "x_test.go": head + at(500, "\n"), "exceptions": tt.exceptions})
			var out strings.Builder
			args := []string{"-exceptions", filepath.Join(dir, "exceptions"), dir}
			if tt.exports != "" {
				args = append([]string{"-exports", tt.exports}, args...)
			}
			err := run(args, &out)
			_, got, counted := strings.Cut(out.String(), " exported names\n")
			if !counted {
				got = out.String()
			}
			if got != tt.want || (err != nil) != (tt.want != "") {
				t.Errorf("%v:\n%s\nwant\n%s", err, got, tt.want)
			}
		})
	}
}

// What cannot be checked is an error, not a folder in which all is well.
func TestBoundsRefuses(t *testing.T) {
	for name, args := range map[string][]string{
		"no folder":           {},
		"an empty folder":     {t.TempDir()},
		"a file with a fault": {write(t, map[string]string{"x.go": "no Go"})},
		"an unknown flag":     {"-what"},
	} {
		if err := run(args, new(strings.Builder)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
