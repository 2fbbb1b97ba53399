package contract_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// An id can never change the path, host or query.
func TestJobIDsStayInTheirPlace(t *testing.T) {
	tooLong := strings.Repeat("x", 3000)
	for _, tt := range []struct {
		id          string
		path, query string // what is on the wire; "": refused
	}{
		{"abc-123_.~", "/status/abc-123_.~", "/job?of=abc-123_.~&x=1"},
		{"a/b", "/status/a%2Fb", "/job?of=a%2Fb&x=1"},
		{"/etc/passwd", "/status/%2Fetc%2Fpasswd", "/job?of=%2Fetc%2Fpasswd&x=1"},
		{"//evil.test/x", "/status/%2F%2Fevil.test%2Fx", "/job?of=%2F%2Fevil.test%2Fx&x=1"},
		{"%2e%2e", "/status/%252e%252e", "/job?of=%252e%252e&x=1"},
		{"%", "/status/%25", "/job?of=%25&x=1"},
		{"?x=1", "/status/%3Fx=1", "/job?of=%3Fx%3D1&x=1"},
		{"a&b=c", "/status/a&b=c", "/job?of=a%26b%3Dc&x=1"},
		{"a+b c", "/status/a+b%20c", "/job?of=a%2Bb+c&x=1"},
		{"#frag", "/status/%23frag", "/job?of=%23frag&x=1"},
		{"a;b", "/status/a%3Bb", "/job?of=a%3Bb&x=1"},
		{"a\r\nHost: evil", "/status/a%0D%0AHost:%20evil", "/job?of=a%0D%0AHost%3A+evil&x=1"},
		{"\x00", "/status/%00", "/job?of=%00&x=1"},
		{"\xff\xfe", "/status/%FF%FE", "/job?of=%FF%FE&x=1"},
		{"ünï☃", "/status/%C3%BCn%C3%AF%E2%98%83", "/job?of=%C3%BCn%C3%AF%E2%98%83&x=1"},
		{"{id}", "/status/%7Bid%7D", "/job?of=%7Bid%7D&x=1"},
		{"...", "/status/...", "/job?of=...&x=1"},
		{"a..b", "/status/a..b", "/job?of=a..b&x=1"},
		{tooLong[:2048], "/status/" + tooLong[:2048], "/job?of=" + tooLong[:2048] + "&x=1"},
		{".", "", ""},
		{"..", "", ""},
		{"a/../b", "", ""},
		{"../../x", "", ""},
		{"a/.", "", ""},
		{`a\..\b`, "", ""},
		{tooLong, "", ""},
	} {
		for pattern, want := range map[string]string{"/status/{id}": tt.path, "/job?of={id}&x=1": tt.query} {
			s := testserver.Start(t, testserver.Pending())
			c := clientFor(t, s, vtclient.WithEndpoint(vtclient.Endpoint{Path: pattern}))
			_, err := c.Status(t.Context(), tt.id)
			var arg *vtclient.ArgumentError
			got := s.Requests()
			switch {
			case want == "" && (!errors.As(err, &arg) || arg.Where != "job id" || len(err.Error()) > 500 || len(got) != 0):
				t.Errorf("%q in %s: %v and %d requests, want a refusal", tt.id, pattern, err, len(got))
			case want != "" && (err != nil || len(got) != 1 || got[0].URI != want || got[0].Host != strings.TrimPrefix(s.URL(), "http://")):
				t.Errorf("%q in %s: %v, %v, want %s", tt.id, pattern, err, got, want)
			}
			s.Close()
		}
	}
}

// The empty id is asked for at /status on the plain API, and refused elsewhere.
func TestEmptyJobID(t *testing.T) {
	for _, tt := range []struct {
		name string
		e    vtclient.Endpoint
		want string
	}{
		{"the plain API has a place for it", vtclient.Endpoint{}, "/status"},
		{"an EmptyPath of the caller's own", vtclient.Endpoint{Path: "/j/{id}", EmptyPath: "/j?all=1"}, "/j?all=1"},
		{"an EmptyPath beside the default path", vtclient.Endpoint{EmptyPath: "/now"}, "/now"},
		{"a custom path refuses it", vtclient.Endpoint{Path: "/j/{id}"}, ""},
		{"a query pattern refuses it", vtclient.Endpoint{Path: "/j?id={id}"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := testserver.Start(t, testserver.Completed())
			st, err := clientFor(t, s, vtclient.WithEndpoint(tt.e)).Status(t.Context(), "")
			if tt.want == "" {
				var arg *vtclient.ArgumentError
				if !errors.As(err, &arg) || len(s.Requests()) != 0 {
					t.Errorf("%v, %v, %d requests; want a refusal", st, err, len(s.Requests()))
				}
				return
			}
			if err != nil || st.State != vtclient.StateCompleted || s.Requests()[0].URI != tt.want {
				t.Errorf("%v, %v, %v; want %s", st, err, s.Requests(), tt.want)
			}
		})
	}
}

func TestBaseURLAndPatternMakeOneAddress(t *testing.T) {
	for _, tt := range []struct{ base, pattern, id, want string }{
		{"http://h", "/s/{id}", "1", "http://h/s/1"},
		{"http://h/", "/s/{id}", "1", "http://h/s/1"},
		{"http://h///", "/s/{id}", "1", "http://h/s/1"},
		{"HTTPS://H:8443/v1", "/s/{id}", "1", "https://H:8443/v1/s/1"},
		{"http://h/v1/", "/s/{id}", "a/b", "http://h/v1/s/a%2Fb"},
		{"http://h/a%20b", "/s/{id}", "a/b", "http://h/a%20b/s/a%2Fb"},
		{"http://h/a%2Fb", "/s/{id}", "c/d", "http://h/a%2Fb/s/c%2Fd"},
		{"http://h/a%2F/", "/s/{id}", "c/d", "http://h/a%2F/s/c%2Fd"},
		{"http://h/ü", "/ß/{id}", "c/d", "http://h/%C3%BC/%C3%9F/c%2Fd"},
		{"http://u:pw@h/v1", "/s/{id}", "1", "http://u:pw@h/v1/s/1"},
		{"http://[::1]:80", "/s/{id}", "1", "http://[::1]:80/s/1"},
		{"http://h", "/s/{id}/of/{id}", "a/b", "http://h/s/a%2Fb/of/a%2Fb"},
		{"http://h", "/x y/{id}", "a/b", "http://h/x%20y/a%2Fb"},
		{"http://h", "/x%2Fy/{id}", "a/b", "http://h/x%2Fy/a%2Fb"},
		{"http://h", "/s/{id}?v=2", "?q", "http://h/s/%3Fq?v=2"},
		{"http://h", "/s?a={id}&b={id}", "&", "http://h/s?a=%26&b=%26"},
		// A base or a pattern that has an {id} of its own, escaped.
		{"http://h/{id}", "/s/{id}", "a/b", "http://h/%7Bid%7D/s/a%2Fb"},
		{"http://h/%7Bid%7D", "/s/{id}", "a/b", "http://h/%7Bid%7D/s/a%2Fb"},
		{"http://h", "/%7Bid%7D/{id}", "a/b", "http://h/%7Bid%7D/a%2Fb"},
	} {
		var got string
		c, err := vtclient.New(tt.base, vtclient.WithEndpoint(vtclient.Endpoint{Path: tt.pattern}),
			vtclient.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
				got = r.URL.String()
				return respond(r, 200, `{"result":"pending"}`), nil
			})}))
		if err != nil {
			t.Errorf("%s + %s: %v", tt.base, tt.pattern, err)
			continue
		}
		if _, err := c.Status(t.Context(), tt.id); err != nil || got != tt.want {
			t.Errorf("%s + %s + %q: %s, %v; want %s", tt.base, tt.pattern, tt.id, got, err, tt.want)
		}
	}
}

func TestNewRefusesAddressesThatCannotBeAskedAt(t *testing.T) {
	const password = "s3cr3t-pw"
	for _, tt := range []struct{ base, path, empty, want string }{
		{"", "", "", `New: baseURL: got scheme "", want scheme http or https`},
		{"api.example.com/v1", "", "", `New: baseURL: got scheme "" in "api.example.com/v1", want`},
		{"ftp://u:" + password + "@h", "", "", `New: baseURL: got scheme "ftp" in "ftp://h", want`},
		{"u:" + password + "@h", "", "", `New: baseURL: got scheme "u", want`},
		{password + "@h", "", "", `New: baseURL: got scheme "", want`},
		{"//u:" + password + "@h/x", "", "", `New: baseURL: got scheme "" in "h/x", want`},
		{"http://", "", "", `New: baseURL: got no host in "http://", want`},
		{"http:///path", "", "", `New: baseURL: got no host in "http:///path", want`},
		{"http://:80", "", "", `New: baseURL: got no host in "http://:80", want`},
		// Copied with something around it.
		{"http://h/v1 ", "", "", `New: baseURL: got a space or an invisible character in "http://h/v1 ", want`},
		{"http://u:" + password + "@h/a b", "", "", `New: baseURL: got a space or an invisible character in "http://h/a b", want`},
		{"http://h/\u200b", "", "", `New: baseURL: got a space or an invisible character in "http://h/\u200b", want`},
		{"http://h\u00a0/", "", "", `New: baseURL: got a space or an invisible character in "http://h\u00a0/", want`},
		{"http://h\r\nX-Evil: 1/", "", "", "New: baseURL: got a string that is no URL, want"},
		{"http:h", "", "", "New: baseURL: got no host, want"},
		{"http://u:" + password + "@h:port/", "", "", "New: baseURL: got a string that is no URL, want"},
		{"http://u:" + password + "@h/%zz", "", "", "New: baseURL: got a string that is no URL, want"},
		{"http://u:" + password + " @h/", "", "", "New: baseURL: got a string that is no URL, want"},
		{"http://u:" + password + "@h/v1?key=" + password, "", "", `New: baseURL: got a query or a fragment after "http://h/v1", want`},
		{"http://u:" + password + "@h?", "", "", `New: baseURL: got a query or a fragment after "http://h", want`},
		{"http://u:" + password + "@h#" + password, "", "", `New: baseURL: got a query or a fragment after "http://h", want`},
		// Passwords that are not escaped.
		{"http://u/" + password + "@h?", "", "", "New: baseURL: got a query or a fragment, want"},
		{"http://u:1?" + password + "@h", "", "", "New: baseURL: got a query or a fragment, want"},
		{"http://u:1#" + password + "@h", "", "", "New: baseURL: got a query or a fragment, want"},
		{"http://u:" + password, "", "", "New: baseURL: got a string that is no URL, want"},
		{"http://h", "/status", "", `Endpoint.Path: got "/status", want a path that contains {id}`},
		{"http://h", "s/{id}", "", `Endpoint.Path: got "s/{id}", want a path that begins with /`},
		{"http://h", "{id}", "", `Endpoint.Path: got "{id}", want a path that begins with /`},
		{"http://h", "/s/{id}#x", "", "Endpoint.Path: "},
		{"http://h", "/s/%2{id}", "", "want a path with valid escapes"},
		{"http://h", "/s?a b={id}", "", "want a query that is escaped"},
		{"http://h", "/s/{id}", "x", `Endpoint.EmptyPath: got "x", want`},
	} {
		_, err := vtclient.New(tt.base, vtclient.WithEndpoint(vtclient.Endpoint{Path: tt.path, EmptyPath: tt.empty}))
		var arg *vtclient.ArgumentError
		if !errors.As(err, &arg) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), password) {
			t.Errorf("%s, %q: %v; want %s", strings.ReplaceAll(tt.base, password, "…"), tt.path, err, tt.want)
		}
	}
}

// Property 24: what the plain API may answer, and what is no answer.
func TestPlainAPIReadsAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       vtclient.Status // zero: unreadable
	}{
		{"pending", `{"result":"pending"}`, vtclient.Status{State: "pending"}},
		{"completed", ` {"result":"completed","message":"ok","progress":1,"url":"x"} `, vtclient.Status{State: "completed", Message: "ok", Progress: 1}},
		{"error", `{"result":"error","message":"no sound"}`, vtclient.Status{State: "error", Message: "no sound"}},
		{"a decoration of the wrong type is left out", `{"result":"pending","message":{"a":1},"progress":"half"}`, vtclient.Status{State: "pending"}},
		{"a progress no float can hold is left out", `{"result":"pending","progress":1e999}`, vtclient.Status{State: "pending"}},
		{"of a decoration that stands there twice the last counts", `{"result":"pending","progress":0.5,"progress":"half","message":"a","message":1}`, vtclient.Status{State: "pending"}},
		{"null decorations", `{"result":"pending","message":null,"progress":null}`, vtclient.Status{State: "pending"}},
		{"progress above 1 is 1", `{"result":"pending","progress":42}`, vtclient.Status{State: "pending", Progress: 1}},
		{"progress below 0 is 0", `{"result":"pending","progress":-1}`, vtclient.Status{State: "pending"}},
		{"empty", ``, vtclient.Status{}},
		{"null", `null`, vtclient.Status{}},
		{"another shape", `["pending"]`, vtclient.Status{}},
		{"a number for the state", `{"result":1}`, vtclient.Status{}},
		{"null for the state", `{"result":null}`, vtclient.Status{}},
		{"no state", `{"message":"hello"}`, vtclient.Status{}},
		{"cut", `{"result":"completed"`, vtclient.Status{}},
		{"something after it", `{"result":"completed"}{`, vtclient.Status{}},
		{"HTML", `<html>502</html>`, vtclient.Status{}},
		{"deeper than any stack", strings.Repeat("[", 100_000), vtclient.Status{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, tt.body), nil }, once())
			st, err := c.Status(t.Context(), "j")
			if tt.want.State == "" {
				var dec *vtclient.DecodeError
				if !errors.As(err, &dec) || st.State != "" {
					t.Errorf("%+v, %v; want a DecodeError", st, err)
				}
				return
			}
			if err != nil || st.State != tt.want.State || st.Message != tt.want.Message || st.Progress != tt.want.Progress || st.JobID != "j" {
				t.Errorf("%+v, %v; want %+v", st, err, tt.want)
			}
			if st.State.Terminal() && string(st.Body) != tt.body {
				t.Errorf("body %q, want it as received", st.Body)
			}
		})
	}
}

// The shapes are those of HeyGen's documentation; what it leaves open is read in the
// way that loses nothing.
func TestHeyGenV3ReadsAnswers(t *testing.T) {
	const url = `"video_url":"https://files.test/v.mp4"`
	for _, tt := range []struct {
		name, body string
		want       vtclient.Status // zero: unreadable
	}{
		{"queued", `{"data":{"id":"tr_1-es","status":"pending","title":"t","output_language":"Spanish","video_url":null,"failure_message":null}}`, vtclient.Status{State: "pending"}},
		{"in progress", `{"data":{"id":"tr_1-es","status":"running"}}`, vtclient.Status{State: "pending"}},
		{"done", `{"data":{"id":"tr_1-es","status":"completed","duration":65.4,` + url + `,"audio_url":"https://files.test/a.mp3"}}`, vtclient.Status{State: "completed"}},
		{"done, in version 2's word", `{"data":{"status":"success",` + url + `}}`, vtclient.Status{State: "completed"}},
		{"done, in the word of others", `{"data":{"status":"succeeded",` + url + `}}`, vtclient.Status{State: "completed"}},
		{"failed", `{"data":{"id":"tr_1-es","status":"failed","failure_message":"no speech found"}}`, vtclient.Status{State: "error", Message: "no speech found"}},
		{"failed for no reason", `{"data":{"status":"failed","failure_message":null}}`, vtclient.Status{State: "error"}},
		{"a message is no reason to lose the result", `{"data":{"status":"failed","failure_message":{"code":7}}}`, vtclient.Status{State: "error"}},
		{"done, the URL missing", `{"data":{"status":"completed"}}`, vtclient.Status{State: "completed", ResultMissing: true}},
		{"done, the URL null", `{"data":{"status":"success","video_url":null}}`, vtclient.Status{State: "completed", ResultMissing: true}},
		{"done, the URL empty", `{"data":{"status":"completed","video_url":""}}`, vtclient.Status{State: "completed", ResultMissing: true}},
		{"done, the URL no string", `{"data":{"status":"completed","video_url":1}}`, vtclient.Status{State: "completed", ResultMissing: true}},
		{"the audio of a video is not the video", `{"data":{"status":"completed","translate_audio_only":false,"audio_url":"https://files.test/a.mp3"}}`, vtclient.Status{State: "completed", ResultMissing: true}},
		{"audio was all that was asked for", `{"data":{"status":"completed","translate_audio_only":true,"video_url":null,"audio_url":"https://files.test/a.mp3"}}`, vtclient.Status{State: "completed"}},
		{"audio was all, and is missing", `{"data":{"status":"completed","translate_audio_only":true,"audio_url":null}}`, vtclient.Status{State: "completed", ResultMissing: true}},
		{"an error with a 200", `{"error":{"code":"internal","message":"oops"}}`, vtclient.Status{}},
		{"data null", `{"data":null}`, vtclient.Status{}},
		{"no status", `{"data":{"id":"tr_1-es"}}`, vtclient.Status{}},
		{"a status that is no word", `{"data":{"status":2}}`, vtclient.Status{}},
		{"another shape", `{"data":[{"status":"completed"}]}`, vtclient.Status{}},
		{"HTML", `<html>`, vtclient.Status{}},
		{"empty", ``, vtclient.Status{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var uri string
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				uri = r.URL.RequestURI()
				return respond(r, 200, tt.body), nil
			}, once(), vtclient.WithEndpoint(vtclient.HeyGenV3()))
			st, err := c.Status(t.Context(), "tr_1-es")
			if uri != "/v3/video-translations/tr_1-es" {
				t.Errorf("asked at %s", uri)
			}
			if tt.want.State == "" {
				var dec *vtclient.DecodeError
				if !errors.As(err, &dec) || st.State != "" {
					t.Errorf("%+v, %v; want a DecodeError", st, err)
				}
				return
			}
			if err != nil || st.State != tt.want.State || st.Message != tt.want.Message || st.ResultMissing != tt.want.ResultMissing {
				t.Errorf("%+v, %v; want %+v", st, err, tt.want)
			}
		})
	}
}

func TestHeyGenV3NamesAnUnknownWord(t *testing.T) {
	c := stubbed(t, func(r *http.Request) (*http.Response, error) {
		return respond(r, 200, `{"data":{"status":"archived"}}`), nil
	}, vtclient.WithEndpoint(vtclient.HeyGenV3()))
	_, err := c.Status(t.Context(), "j")
	var state *vtclient.UnknownStateError
	if !errors.As(err, &state) || state.Word != "archived" {
		t.Errorf("%v", err)
	}
}

// HeyGen's error envelope fits into the excerpt, so that it needs no reader of its own.
func TestHeyGenV3ErrorsShowTheEnvelopeAndNotTheKey(t *testing.T) {
	const key = "sk_V2_hgu_secret"
	body := `{"error":{"code":"not_found","message":"No video translation with this id for key ` + key + `.","param":"video_translation_id","doc_url":"https://developers.heygen.com/docs/error-codes#not-found"}}`
	c := stubbed(t, func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("X-Api-Key") != key {
			t.Errorf("headers %v", r.Header)
		}
		return respond(r, 404, body, "X-Request-Id: req_7"), nil
	}, vtclient.WithEndpoint(vtclient.HeyGenV3()), vtclient.WithHeader("x-api-key", key))
	_, err := c.Status(t.Context(), "j")
	var h *vtclient.HTTPError
	if !errors.As(err, &h) || h.StatusCode != 404 || h.RequestID != "req_7" ||
		!strings.Contains(err.Error(), "not_found") || !strings.Contains(err.Error(), "No video translation with this id") || strings.Contains(err.Error(), key) {
		t.Errorf("%v", err)
	}
}

// An Endpoint gets the answer as it came. What the client itself fills in, Decode cannot set.
func TestDecodeSeesTheAnswerAndFillsInOnlyWhatIsItsOwn(t *testing.T) {
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 206, "body", "X-Y: z"), nil },
		vtclient.WithEndpoint(vtclient.Endpoint{Path: "/{id}", Decode: func(a vtclient.Answer) (vtclient.Status, error) {
			if a.StatusCode != 206 || a.Header.Get("X-Y") != "z" || string(a.Body) != "body" {
				t.Errorf("answer %+v", a)
			}
			return vtclient.Status{JobID: "forged", State: "completed", Cached: true, Body: []byte("forged"), Message: "m"}, nil
		}}))
	st, err := c.Status(t.Context(), "j")
	if err != nil || st.JobID != "j" || st.Cached || string(st.Body) != "body" || st.Message != "m" || st.CheckedAt.IsZero() {
		t.Errorf("%+v, %v", st, err)
	}
}

// Whatever the id, the server sees exactly that id in exactly that place, or
// the client refuses it.
func FuzzJobIDEscaping(f *testing.F) {
	for _, id := range []string{"", ".", "..", "a/b", "a/../b", "%2e%2e", "?x=1", "#", "\n", "ü", "{id}", `\`, "\x00\xff", "a b+c&d=e;f", "//h", "..;"} {
		f.Add(id)
	}
	var seen *http.Request
	hc := &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
		// Through the wire format and back, as a server reads it.
		var wire bytes.Buffer
		r.Clone(context.Background()).Write(&wire)
		var err error
		if seen, err = http.ReadRequest(bufio.NewReader(&wire)); err != nil {
			return nil, err
		}
		return respond(r, 200, `{"result":"pending"}`), nil
	})}
	newClient := func(path string) *vtclient.Client {
		c, err := vtclient.New("http://api.test/v1", vtclient.WithHTTPClient(hc), vtclient.WithEndpoint(vtclient.Endpoint{Path: path}), vtclient.WithCache(nil), once())
		if err != nil {
			f.Fatal(err)
		}
		return c
	}
	inPath, inQuery := newClient("/jobs/{id}/status"), newClient("/jobs?id={id}&x=1")
	f.Fuzz(func(t *testing.T, id string) {
		for _, c := range []*vtclient.Client{inPath, inQuery} {
			seen = nil
			_, err := c.Status(context.Background(), id)
			var arg *vtclient.ArgumentError
			if errors.As(err, &arg) {
				if seen != nil {
					t.Errorf("%q: refused and sent", id)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%q: %v", id, err)
			}
			if seen.Host != "api.test" {
				t.Errorf("%q: host %q", id, seen.Host)
			}
			if c == inQuery {
				q, err := url.ParseQuery(seen.URL.RawQuery)
				if err != nil || seen.URL.Path != "/v1/jobs" || len(q) != 2 || len(q["id"]) != 1 || q.Get("id") != id || q.Get("x") != "1" {
					t.Errorf("%q: %s: %v, %v", id, seen.RequestURI, q, err)
				}
				continue
			}
			segments := strings.Split(seen.URL.EscapedPath(), "/")
			if len(segments) != 5 || segments[1] != "v1" || segments[2] != "jobs" || segments[4] != "status" || seen.URL.RawQuery != "" {
				t.Fatalf("%q: %s", id, seen.RequestURI)
			}
			if got, err := url.PathUnescape(segments[3]); err != nil || got != id {
				t.Errorf("%q: the server reads %q, %v", id, got, err)
			}
		}
	})
}

// Property 24: whatever the body, the answer is a status in one of the three
// states or a typed error, and nothing panics.
func FuzzDecodePlain(f *testing.F) {
	for _, b := range []string{`{"result":"pending"}`, `{"result":"error","message":"x","progress":0.5}`, `{"result":"completed","progress":"x"}`,
		`{"result":"strange"}`, `{"result":""}`, `{"result":1}`, `null`, `[]`, ``, `<html>`, "\x1f\x8b", `{"RESULT":"pending","result":"error"}`, `{"result":"pending","progress":-1e308}`} {
		f.Add([]byte(b))
	}
	var body []byte
	c, err := vtclient.New("http://api.test", once(), vtclient.WithCache(nil), vtclient.WithBreaker(nil),
		vtclient.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, string(body)), nil
		})}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		body = b
		st, err := c.Status(context.Background(), "j")
		var dec *vtclient.DecodeError
		var state *vtclient.UnknownStateError
		switch {
		case err == nil && (st.State == vtclient.StatePending || st.State.Terminal()):
			if !(st.Progress >= 0 && st.Progress <= 1) {
				t.Errorf("progress %v", st.Progress)
			}
			if st.State.Terminal() && !bytes.Equal(st.Body, b) {
				t.Errorf("body %q", st.Body)
			}
		case errors.As(err, &dec):
			if len(dec.Excerpt) > 200 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%q: %q", dec.Excerpt, err)
			}
		case errors.As(err, &state):
			if state.Word == "" {
				t.Error("no word")
			}
		default:
			t.Errorf("%q: %+v, %v", b, st, err)
		}
	})
}

// The error about an answer that cannot be read has that of encoding/json.
func TestHeyGenV3KeepsTheCauseOfWhatItCannotRead(t *testing.T) {
	_, err := vtclient.HeyGenV3().Decode(vtclient.Answer{StatusCode: 200, Body: []byte(`<html>`)})
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		t.Error(err)
	}
}

// An id that the backend would split goes into no shared request, whichever way the
// separator is written: as it is, escaped once or more, or overlapping with the id's end.
func TestNoIDIsSplitByTheSeparator(t *testing.T) {
	const comma = ","
	for _, tt := range []struct {
		separator string
		at        string // where the backend splits what it has unescaped
		unescapes int
		single    []string // ids that may stand in no shared request
		shared    []string // those that may
	}{
		{"", comma, 1, []string{"x,y", ",", "x,"}, []string{"x%2Cy", "x;y", "x y"}},
		{"%2C", comma, 1, []string{"x,y", "x%2Cy", ",y"}, []string{"x.y", "x%2cy", "x+y"}},
		{"%2c", comma, 1, []string{"x,y", ",,"}, []string{"x-y"}},
		{"%252C", comma, 2, []string{"x,y", "x%2Cy", "x%252Cy"}, []string{"xy"}},
		{"+", " ", 1, []string{"x y", "x+y"}, []string{"x,y"}},
		{"%20", " ", 1, []string{"x y"}, []string{"x,y", "x+y"}},
		{"%7C%7C", "||", 1, []string{"x||y", "x|", "|"}, []string{"x|y", "|x"}},
		{",,", ",,", 1, []string{"x,,y", "x,"}, []string{"x,y"}},
	} {
		synctest.Test(t, func(t *testing.T) { // else the jobs may come too late to share a request
			asked := map[string]bool{} // by shared requests, as the backend reads them
			var mu sync.Mutex
			backend := func(r *http.Request) (*http.Response, error) {
				if r.URL.Path != "/all" {
					return respond(r, 200, `{"result":"completed"}`), nil
				}
				query := strings.TrimPrefix(r.URL.RawQuery, "ids=")
				for range tt.unescapes {
					query, _ = url.QueryUnescape(query)
				}
				ids := strings.Split(query, tt.at)
				mu.Lock()
				defer mu.Unlock()
				for _, id := range ids {
					asked[id] = true
				}
				answer, _ := json.Marshal(ids)
				return respond(r, 200, string(answer)), nil
			}
			bulk := vtclient.Bulk{Path: "/all?ids={ids}", Separator: tt.separator, Decode: func(a vtclient.Answer) (all []vtclient.Status, next string, err error) {
				var ids []string
				err = json.Unmarshal(a.Body, &ids)
				for _, id := range ids {
					all = append(all, vtclient.Status{JobID: id, State: vtclient.StateCompleted, Body: []byte(`{}`)})
				}
				return all, "", err
			}}
			c := stubbed(t, backend, vtclient.WithEndpoint(vtclient.Endpoint{Path: "/one?id={id}", Bulk: bulk}), vtclient.WithCache(nil))
			given := map[string]bool{"a": true, "b": true}
			ids := []string{"a", "b"}
			for _, id := range append(tt.single, tt.shared...) {
				given[id] = true
				ids = append(ids, id)
			}
			ended := 0
			for st, err := range c.WaitAll(t.Context(), vtclient.Jobs(ids...), vtclient.StartedAt(time.Now().Add(-24*time.Hour))) {
				if err != nil || st.State != vtclient.StateCompleted {
					t.Errorf("separator %q: %q: %v", tt.separator, st.JobID, err)
				}
				ended++
			}
			if ended != len(ids) {
				t.Errorf("separator %q: %d of %d jobs ended", tt.separator, ended, len(ids))
			}
			for id := range asked {
				if !given[id] {
					t.Errorf("separator %q: the backend was asked for %q, which is no job", tt.separator, id)
				}
			}
			if tt.unescapes == 1 {
				for _, id := range append(tt.shared, "a", "b") {
					if !asked[id] {
						t.Errorf("separator %q: %q was in no shared request", tt.separator, id)
					}
				}
			}
			for _, id := range tt.single {
				if asked[id] {
					t.Errorf("separator %q: %q was in a shared request", tt.separator, id)
				}
			}
		})
	}
}

// answering returns a client of a backend that answers with a body, and tries once.
func answering(t *testing.T, body string, e vtclient.Endpoint) *vtclient.Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
	t.Cleanup(s.Close)
	c, err := vtclient.New(s.URL, vtclient.WithEndpoint(e), vtclient.WithRetry(vtclient.Exponential{Limit: 1}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// An answer that is JSON of another shape is described in the words of JSON, not by the
// types of Go, whichever Endpoint reads it.
func TestJSONOfAnotherShapeIsDescribedAsJSON(t *testing.T) {
	own := func(v any) vtclient.Endpoint {
		return vtclient.Endpoint{Path: "/{id}", Decode: func(a vtclient.Answer) (vtclient.Status, error) {
			if err := json.Unmarshal(a.Body, v); err != nil {
				return vtclient.Status{}, fmt.Errorf("my API: %w", err)
			}
			return vtclient.Status{}, errors.New("it fits")
		}}
	}
	var v struct {
		N    int8
		On   bool
		Name string
		Next *struct{ F float64 }
		List []map[string]uint16
		Any  chan int
	}
	for _, tt := range []struct {
		endpoint vtclient.Endpoint
		body     string
		want     string
	}{
		{vtclient.Endpoint{}, `[]`, "a JSON array, expected an object"},
		{vtclient.Endpoint{}, `[{"result":"completed"}]`, "a JSON array, expected an object"},
		{vtclient.Endpoint{}, `7`, "a JSON number, expected an object"},
		{vtclient.Endpoint{}, `"completed"`, "a JSON string, expected an object"},
		{vtclient.Endpoint{}, `true`, "a JSON boolean, expected an object"},
		{vtclient.Endpoint{}, `null`, `no "result" in the answer`},
		{vtclient.Endpoint{}, `{"result":{}}`, `a JSON object in "result", expected a string`},
		{vtclient.Endpoint{}, `{"result":1.5}`, `a JSON number in "result", expected a string`},
		{vtclient.HeyGenV3(), `[]`, "a JSON array, expected an object"},
		{vtclient.HeyGenV3(), `{"data":"x"}`, `a JSON string in "data", expected an object`},
		{vtclient.HeyGenV3(), `{"data":{"status":["x"]}}`, `a JSON array in "data.status", expected a string`},
		{own(&v), `{"N":300}`, `my API: a JSON number (300) in "N", expected an integer of 8 bits`},
		{own(&v), `{"N":1.5}`, `my API: a JSON number (1.5) in "N", expected an integer of 8 bits`},
		{own(&v), `{"On":"yes"}`, `my API: a JSON string in "On", expected a boolean`},
		{own(&v), `{"Next":{"F":"x"}}`, `my API: a JSON string in "Next.F", expected a number`},
		{own(&v), `{"Next":[]}`, `my API: a JSON array in "Next", expected an object`},
		{own(&v), `{"List":{}}`, `my API: a JSON object in "List", expected an array`},
		{own(&v), `{"List":[3]}`, `my API: a JSON number in "List", expected an object`},
		{own(&v), `{"Any":3}`, `my API: a JSON number in "Any", expected another kind of value`},
		{own(&v), `{}`, "it fits"},
	} {
		_, err := answering(t, tt.body, tt.endpoint).Status(t.Context(), "j")
		var decode *vtclient.DecodeError
		if !errors.As(err, &decode) || !strings.Contains(err.Error(), "unreadable answer: "+tt.want) {
			t.Errorf("%s: %v\nwant %s", tt.body, err, tt.want)
			continue
		}
		for _, syntax := range []string{"struct", "Go ", "json:", "map["} {
			if strings.Contains(strings.Split(err.Error(), "; not retried")[0], syntax) {
				t.Errorf("%s: %v: has %s", tt.body, err, syntax)
			}
		}
		var mismatch *json.UnmarshalTypeError
		if errors.As(err, &mismatch) != strings.Contains(tt.want, "JSON") {
			t.Errorf("%s: the error of encoding/json is found: %t", tt.body, mismatch != nil)
		}
	}
}

// An Endpoint with a Path and without a Decode expects the plain format. An answer
// of another format is reported together with that.
func TestAnEndpointWithoutDecodeNamesItAsTheReason(t *testing.T) {
	const reason = "the Endpoint has no Decode, so the plain format is expected: {\"result\": …}"
	for _, tt := range []struct {
		endpoint vtclient.Endpoint
		body     string
		named    bool
	}{
		{vtclient.Endpoint{Path: "/v1/jobs/{id}"}, `{"status":"done"}`, true},
		{vtclient.Endpoint{Path: "/v1/jobs/{id}"}, `<html>`, true},
		{vtclient.Endpoint{Path: "/v1/jobs/{id}"}, `[]`, true},
		{vtclient.Endpoint{Path: "/status/{id}"}, `{"state":"completed"}`, true},
		{vtclient.Endpoint{Path: "/v1/jobs/{id}", EmptyPath: "/v1/jobs"}, ``, true},
		{vtclient.Endpoint{Path: "/v1/jobs/{id}", Decode: func(vtclient.Answer) (vtclient.Status, error) {
			return vtclient.Status{}, errors.New("no status")
		}}, `{"status":"done"}`, false},
		{vtclient.Endpoint{}, `{"status":"done"}`, false},
		{vtclient.Endpoint{}, `{"status":"done"}`, false},
	} {
		_, err := answering(t, tt.body, tt.endpoint).Status(t.Context(), "j")
		var decode *vtclient.DecodeError
		if !errors.As(err, &decode) || strings.Contains(err.Error(), reason) != tt.named {
			t.Errorf("%+v, %s: %v, the reason is named: %t", tt.endpoint, tt.body, err, !tt.named)
		}
	}
	st, err := answering(t, `{"result":"completed"}`, vtclient.Endpoint{Path: "/v1/jobs/{id}"}).Status(t.Context(), "j")
	if err != nil || st.State != vtclient.StateCompleted {
		t.Errorf("an answer of the plain format: %+v, %v", st, err)
	}
}
