package vtclient

import (
	"strings"
	"testing"
)

// One line of text from outside: what cannot be printed and runs of space are
// one space, none at either end, and the cut is within the limit, to the byte.
func TestOneLine(t *testing.T) {
	for _, tt := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 10, ""},
		{"a b", 10, "a b"},
		{"  a  b  ", 10, "a b"},
		{"\x00\na\t\r\nb\x1b", 10, "a b"},
		{"a\u00a0\u2028b", 10, "a b"},
		{"a\xffb", 10, "a\ufffdb"},
		{"ü☃", 10, "ü☃"},
		// The mark of a cut takes three bytes, which are kept free for it.
		{"1234567", 10, "1234567"},
		{"12345678", 10, "1234567…"},
		{"12345 7", 10, "12345 7"},
		{"123456 8", 10, "123456…"},
		{"12345 78", 10, "12345 7…"},
		{"123456ü", 10, "123456…"},
		{"12345ü", 10, "12345ü"},
	} {
		if got := oneLine(tt.in, tt.limit); got != tt.want || len(got) > tt.limit {
			t.Errorf("oneLine(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
}

// An id of up to 128 bytes is quoted as it is, a longer one is cut.
func TestQuoteID(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"ü\n", `"ü\n"`},
		{strings.Repeat("x", 127) + "\n", `"` + strings.Repeat("x", 127) + `\n"`},
		{strings.Repeat("ü", 64), `"` + strings.Repeat("ü", 64) + `"`},
		{strings.Repeat("x", 129), `"` + strings.Repeat("x", 128) + `"…`},
		{strings.Repeat("x", 127) + "ü", `"` + strings.Repeat("x", 127) + `\xc3"…`},
	} {
		if got := quoteID(tt.in); got != tt.want {
			t.Errorf("quoteID(%q) = %s, want %s", tt.in, got, tt.want)
		}
	}
}
