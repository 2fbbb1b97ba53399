package main

import (
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/vtclient/vtclient"
)

// An api is one of the APIs of translation backends that vt speaks.
type api struct {
	name   string
	keyVar string // the environment variable that holds the key or token

	// base is the base URL of the backend whose API it is, and host the domain that
	// always asks for a key. Both are empty for an API that is nobody's in particular.
	base, host string

	// endpoint and header are how a client asks; header gets a key that is not empty.
	endpoint vtclient.Endpoint
	header   func(key string) (name, value string)

	// result finds the result's URL in the answer about a completed job. Nil: it is not
	// shown by itself.
	result func(body []byte) string
}

var (
	plainAPI = &api{
		name: "plain", keyVar: "VT_TOKEN",
		endpoint: vtclient.PlainAPI(),
		header:   func(token string) (string, string) { return "Authorization", "Bearer " + token },
	}
	heygenAPI = &api{
		name: "heygen", keyVar: "HEYGEN_API_KEY",
		base: "https://api.heygen.com", host: "heygen.com",
		endpoint: vtclient.HeyGenV3(),
		header:   func(key string) (string, string) { return "X-Api-Key", key },
		result:   heygenResult,
	}
)

// heygenSecretVar is the environment variable that holds the secret of HeyGen's webhooks.
const heygenSecretVar = "HEYGEN_WEBHOOK_SECRET"

// wantsKey reports whether a base URL is one where nothing is to be had without a key.
func (a *api) wantsKey(base string) bool {
	u, err := url.Parse(base)
	if a.host == "" || err != nil {
		return false
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	return host == a.host || strings.HasSuffix(host, "."+a.host)
}

// heygenResult is the URL of the translated video, or of the sound if that is all that
// was asked for.
func heygenResult(body []byte) string {
	var v struct {
		Data struct {
			VideoURL any `json:"video_url"`
			AudioURL any `json:"audio_url"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &v) != nil {
		return ""
	}
	for _, u := range []any{v.Data.VideoURL, v.Data.AudioURL} {
		if s, ok := u.(string); ok && s != "" {
			return s
		}
	}
	return ""
}

// An apiFlag is a flag.Value: an API by its name.
type apiFlag struct{ *api }

func (a *apiFlag) String() string {
	if a.api == nil {
		return ""
	}
	return a.name
}

func (a *apiFlag) Set(name string) error {
	for _, known := range []*api{plainAPI, heygenAPI} {
		if known.name == name {
			a.api = known
			return nil
		}
	}
	return fmt.Errorf("no API %q: know plain, heygen", name)
}

// Secrets are texts that must not be shown. The library keeps them out of messages and
// errors; the answer with a job's result it hands over as it came.
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

// noSecret says that there is nothing to sign or verify webhooks with.
const noSecret = "put the secret that webhooks are signed with into the environment variable " + heygenSecretVar +
	"; there is no flag for it, since other users of a machine can read a command line"

// misplaced returns a flag that has been given and is for HeyGen's API, if a is another.
// The names are those of such flags besides the ones that describe a simulation.
func misplaced(given map[string]bool, a *api, names ...string) string {
	if a == heygenAPI {
		return ""
	}
	for _, name := range append(names, heygenFlags...) {
		if given[name] {
			return name
		}
	}
	return ""
}
