package redact

import (
	"slices"
	"testing"
)

// The forms in which a secret is looked for: as JSON has it, with and without
// escaped slashes and angle brackets, as Go and HTML have it, and as URLs do.
func TestTheFormsOfASecret(t *testing.T) {
	for in, want := range map[string][]string{
		"plain-1": {"plain-1"},
		"a\"b/<&": {
			"a\"b/<&", `a\"b/\u003c\u0026`, `a\"b\/\u003c\u0026`, `a\"b/<&`, `a\"b\/<&`,
			"a&#34;b/&lt;&amp;", "a&quot;b/&lt;&amp;", "a%22b%2F%3C%26", "a%22b%2F%3C&",
		},
	} {
		if got := slices.Collect(written(in)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
