package main

import (
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Secrets are texts that must not be shown. The library keeps them out of messages and
// errors; it returns the answer with a job's result unchanged.
type secrets []string

// minSecret is the least length in bytes of what is taken for a secret, as in the library:
// a shorter one would tear words apart.
const minSecret = 4

func (s secrets) with(secret string) secrets {
	if len(secret) < minSecret {
		return s
	}
	quoted := strconv.Quote(secret)
	for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret), quoted[1 : len(quoted)-1]} {
		if !slices.Contains(s, form) {
			s = append(s, form)
		}
	}
	slices.SortFunc(s, func(a, b string) int { return len(b) - len(a) }) // one may be a part of another
	return s
}

func (s secrets) hide(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, "[redacted]")
	}
	return text
}

// hideInJSON takes the secrets out of the strings in a valid JSON text, however they are
// escaped there, and leaves all else as it is.
func (s secrets) hideInJSON(text []byte) []byte {
	if len(s) == 0 {
		return text
	}
	var out []byte
	for i := 0; i < len(text); i++ {
		if text[i] != '"' {
			out = append(out, text[i])
			continue
		}
		end := i + 1
		for text[end] != '"' {
			if text[end] == '\\' {
				end++
			}
			end++
		}
		literal := text[i : end+1]
		var plain string
		if json.Unmarshal(literal, &plain) == nil {
			if hidden := s.hide(plain); hidden != plain {
				literal, _ = json.Marshal(hidden)
			}
		}
		out = append(out, literal...)
		i = end
	}
	return out
}
