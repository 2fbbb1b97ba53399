package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxText bounds a piece of text from outside, in bytes before escaping.
const maxText = 1000

// clean makes text from outside fit for a terminal and for one line of a log:
// whatever is not printable is written as an escape, as Go would. That covers
// control characters, and with them terminal sequences and line breaks, the
// overrides of writing direction, invisible characters and bytes that are no
// UTF-8.
func clean(s string) string { return cleanUpTo(maxText, s) }

// cleanUpTo is clean with a bound of its own.
func cleanUpTo(most int, s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if i >= most {
			b.WriteString("…")
			break
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		i += n
	}
	return b.String()
}

// jsonLine encodes v as one line. JSON leaves the same characters alone that
// clean escapes, above U+001F; here they are escaped as JSON does, so that the
// value is the same and a terminal is safe.
func jsonLine(v any) []byte {
	var raw, b bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil { // only a bug can bring this about
		raw.Reset()
		_ = enc.Encode(map[string]string{"event": "error", "error": err.Error()})
	}
	for _, r := range strings.TrimSuffix(raw.String(), "\n") {
		switch {
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('\n')
	return b.Bytes()
}
