package redact

import (
	"net/http"
	"slices"
	"testing"
)

// request returns one whose URL and headers, key and value in turn, are given.
func request(t *testing.T, url string, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

func TestText(t *testing.T) {
	for _, tt := range []struct {
		name     string
		req      *http.Request
		in, want string
	}{
		{"a header", request(t, "http://h", "X-Key", "s3cret"), "a s3cret b", "a [redacted] b"},
		{"a token", request(t, "http://h", "Authorization", "Bearer s3cret"), "a s3cret b", "a [redacted] b"},
		{"a harmless header", request(t, "http://h", "User-Agent", "vtclient"), "vtclient", "vtclient"},
		{"a cookie", request(t, "http://h", "Cookie", "a=c00kie; b=x"), "c00kie", "[redacted]"},
		{"a password", request(t, "http://user:p4ssword@h"), "user, p4ssword, user:p4ssword", "user, [redacted], [redacted]"},
		{"a user alone", request(t, "http://us3rkey@h"), "us3rkey", "[redacted]"},
		{"a query parameter", request(t, "http://h?key=s3+cret"), "s3+cret, s3 cret, s3%20cret", "[redacted], [redacted], [redacted]"},
		{"a public parameter", request(t, "http://h?id=job-1"), "job-1", "job-1"},
		{"three bytes", request(t, "http://h", "X-Key", "s3c"), "s3c", "s3c"},
		{"cut at the end", request(t, "http://h", "X-Key", "s3cret"), "a s3cr", "a [redacted]"},
		{"cut too short", request(t, "http://h", "X-Key", "s3cret"), "a s3c", "a s3c"},
		{"one within another", request(t, "http://h", "X-Key", "s3cret", "X-Other", "s3cret-and-more"), "s3cret-and-more", "[redacted]"},
	} {
		if got := Of(tt.req, []string{"id"}).Text(tt.in); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A secret is found in a quoted part of an error's text though only its beginning is there.
func TestMessage(t *testing.T) {
	secrets := Of(request(t, "http://h", "X-Key", "s3cret\t0123"), nil)
	for in, want := range map[string]string{
		`bad "s3cret\t01" here`:               `bad "[redacted]" here`,
		`bad "ok" and "s3cret\t" or "x"`:      `bad "ok" and "[redacted]" or "x"`,
		`5" of "s3cret`:                       `5" of "[redacted]`,
		`"D" is no quote`:                     `"D" is no quote`,
		`s3cret\t0123 as Go and JSON have it`: `[redacted] as Go and JSON have it`,
	} {
		if got := secrets.Message(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestAnonymous(t *testing.T) {
	for _, tt := range []struct {
		req  *http.Request
		want bool
	}{
		{request(t, "http://h?id=1", "Accept", "application/json"), true},
		{request(t, "http://h", "X-Key", "k"), false},
		{request(t, "http://h?id=1&key=k"), false},
		{request(t, "http://user@h"), false},
	} {
		if got := Anonymous(tt.req, []string{"id"}); got != tt.want {
			t.Errorf("%v %v: %t", tt.req.URL, tt.req.Header, got)
		}
	}
}

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
