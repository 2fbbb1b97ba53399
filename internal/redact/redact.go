// Package redact takes the secrets of a request out of text that comes from outside:
// what a server echoes, and what net/http quotes in its errors.
package redact

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Placeholder stands in the place of a secret.
const Placeholder = "[redacted]"

// minSecret is the least length in bytes of a secret. To take out a shorter one would
// tear words apart.
const minSecret = 4

// Secrets are the texts that must not be shown, the longest first, as one may be a part
// of another.
type Secrets []string

// Of returns the secrets that req carries, in the forms in which a server or net/http
// may repeat them: the value of every header that is not known to be harmless, the
// user and password of the URL, and every query parameter but the public ones; and of
// the URLs in a body whose bytes can be had.
func Of(req *http.Request, public []string) Secrets {
	var s Secrets
	for k, values := range req.Header {
		if harmless(k) {
			continue
		}
		for _, v := range values {
			s.hide(v)
			_, token, _ := strings.Cut(v, " ") // "Bearer x"
			s.hide(strings.TrimSpace(token))
		}
	}
	for _, cookie := range req.Cookies() {
		s.hide(cookie.Value)
	}
	if user, password, ok := req.BasicAuth(); ok {
		s.hideLogin(user, password)
	}
	if req.URL != nil {
		s.hideURL(req.URL, public)
	}
	if b, ok := req.Body.(interface{ Bytes() []byte }); ok {
		var v any
		if json.Unmarshal(b.Bytes(), &v) == nil {
			s.hideBody(v)
		}
	}
	slices.SortFunc(s, func(a, b string) int { return len(b) - len(a) })
	return s
}

// Anonymous reports whether req carries nothing that could be a credential.
func Anonymous(req *http.Request, public []string) bool {
	for k := range req.Header {
		if !harmless(k) {
			return false
		}
	}
	if req.URL.RawQuery != "" {
		for pair := range strings.SplitSeq(req.URL.RawQuery, "&") {
			if name, _, _ := strings.Cut(pair, "="); !slices.Contains(public, name) {
				return false
			}
		}
	}
	return req.URL.User == nil
}

// harmless reports whether the header k is known to hold no secret.
func harmless(k string) bool {
	switch k {
	case "Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Type", "Pragma", "User-Agent", "Traceparent", "Tracestate":
		return true
	}
	return false
}

func (s *Secrets) hideURL(u *url.URL, public []string) {
	if user := u.User; user != nil {
		password, _ := user.Password()
		s.hideLogin(user.Username(), password)
		s.hide(user.String())
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if name, value, _ := strings.Cut(pair, "="); !slices.Contains(public, name) {
			s.hide(value)
			if plain, err := url.QueryUnescape(value); err == nil {
				s.hide(plain)
			}
		}
	}
}

// hideBody hides what the URLs in the JSON of a request's body carry: the signature of
// an address that gives access to a video, or the token of a callback.
func (s *Secrets) hideBody(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, one := range v {
			s.hideBody(one)
		}
	case []any:
		for _, one := range v {
			s.hideBody(one)
		}
	case string:
		if u, err := url.Parse(v); err == nil && u.Host != "" {
			s.hideURL(u, nil)
		}
	}
}

func (s *Secrets) hideLogin(user, password string) {
	s.hide(password)
	if password == "" {
		s.hide(user) // some services take a key for the user
	}
	s.hide(user + ":" + password)
	s.hide(base64.StdEncoding.EncodeToString([]byte(user + ":" + password)))
}

// hide adds a secret in all its forms. They are taken twice, for an error page in
// JSON or an address in HTML. Most keys have one form or two in all.
func (s *Secrets) hide(secret string) {
	if len(secret) < minSecret {
		return
	}
	for once := range written(secret) {
		for twice := range written(once) {
			if !slices.Contains(*s, twice) {
				*s = append(*s, twice)
			}
		}
	}
}

// written yields the forms in which a text stands in other texts: as it is, and
// as JSON, Go, HTML and URLs have it.
func written(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		inQuery := url.QueryEscape(s)
		if inQuery == s { // and so do all others
			yield(s)
			return
		}
		quoted, _ := json.Marshal(s) // a string always marshals
		inJSON := string(quoted[1 : len(quoted)-1])
		inGo := strconv.Quote(s) // and JSON of encoders that leave <, > and & alone
		inGo = inGo[1 : len(inGo)-1]
		inHTML := html.EscapeString(s)
		for _, form := range [...]string{
			s, inJSON, strings.ReplaceAll(inJSON, "/", `\/`), inGo, strings.ReplaceAll(inGo, "/", `\/`),
			inHTML, strings.ReplaceAll(inHTML, "&#34;", "&quot;"), inQuery, url.PathEscape(s),
		} {
			if !yield(form) {
				return
			}
		}
	}
}

// Text returns text without the secrets. As the text may have been cut, the beginning
// of a secret at its end is taken out, too.
func (s Secrets) Text(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, Placeholder)
	}
	for _, secret := range s {
		for n := min(len(secret)-1, len(text)); n >= minSecret; n-- {
			if strings.HasSuffix(text, secret[:n]) {
				return text[:len(text)-n] + Placeholder
			}
		}
	}
	return text
}

// Message returns the text of an error without the secrets, also where they stand in
// quoted parts. net/http and net/url quote what they cannot read, and often only the
// beginning of it.
func (s Secrets) Message(text string) string { return s.Text(s.quoted(text)) }

// quoted applies Text to each quoted part of a text.
func (s Secrets) quoted(text string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '"')
		if i < 0 {
			return b.String() + text
		}
		b.WriteString(text[:i])
		quoted, err := strconv.QuotedPrefix(text[i:])
		if err != nil {
			quoted = `"`
		} else if plain, err := strconv.Unquote(quoted); err == nil {
			if shown := s.Text(plain); shown != plain {
				b.WriteString(strconv.Quote(shown))
				text = text[i+len(quoted):]
				continue
			}
		}
		b.WriteString(quoted)
		text = text[i+len(quoted):]
	}
}
