package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/vtclient/vtclient"
)

// An api is the API of a translation backend.
type api struct {
	name   string
	keyVar string // the environment variable that holds the key or token

	// base is the base URL of the backend whose API it is, and host the domain that
	// always asks for a key. Both are empty for an API of many backends.
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
		header: func(token string) (string, string) { return "Authorization", "Bearer " + token },
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

// needsKey reports whether a base URL is one that refuses all requests without a key.
func (a *api) needsKey(base string) bool {
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
	return fmt.Errorf("no API %q: there are plain, heygen", name)
}

// unset is the error about an environment variable that is needed.
func unset(name, what string) error {
	return fmt.Errorf("%s is not set: put %s there; there is no flag for it, since other users of a machine can read a command line", name, what)
}

const whatSecret = "the secret that webhooks are signed with"

// commandWords turns the library's words, which are for programmers, into those of the
// command.
func (a *api) commandWords() *strings.Replacer {
	name, _ := a.header("")
	return strings.NewReplacer(
		"WithHeader, WithRequest and the base URL bring no credentials", a.keyVar+" is not set",
		"vtclient: WithHeader: value of "+name, a.keyVar,
		"vtclient: New: baseURL", "-url",
		"; add parameters in Endpoint.Path or WithRequest", "",
		"the tolerance of", "-outage",
		"; not retried: WithRetry stops after try 1", "",
	)
}

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
