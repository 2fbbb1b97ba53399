package simserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

// resultURL asks for a job's result, by both APIs in turn.
func resultURL(t *testing.T, sim *simserver.Server, id string) string {
	t.Helper()
	_, body, err := get(sim, "/status/"+url.PathEscape(id))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		VideoURL string `json:"video_url"`
	}
	if json.Unmarshal([]byte(body), &v) != nil || v.VideoURL == "" {
		t.Fatal(body)
	}
	_, heygen := doV3(t, sim, "GET", v3+"/"+url.PathEscape(id), "")
	if quoted, _ := json.Marshal(v.VideoURL); !strings.Contains(heygen, string(quoted)) {
		t.Errorf("%s does not stand in %s", quoted, heygen)
	}
	return v.VideoURL
}

// fetch downloads a part of a file: what is asked for by rng.
func fetch(t *testing.T, client *http.Client, from, rng string, header ...string) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequest("GET", from, nil)
	if err != nil {
		t.Fatal(err)
	}
	if rng != "" {
		req.Header.Set("Range", rng)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, b, err
}

// A result is downloaded from another host than the API's, in parts, until its address
// expires; the next answer has a fresh one.
func TestDownloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithDownloads(simserver.Downloads{Size: 100_000, Expires: time.Minute}))
		sim.Create(simserver.Job{ID: "a/b c", Duration: -1})
		sim.Create(simserver.Job{ID: "mine", Duration: -1, Result: map[string]any{"video_url": "https://me.invalid/1"}})
		sim.Create(simserver.Job{ID: "later", Duration: time.Hour})
		if u := resultURL(t, sim, "mine"); u != "https://me.invalid/1" {
			t.Error(u)
		}
		at := resultURL(t, sim, "a/b c")
		if u, err := url.Parse(at); err != nil || u.Host == strings.TrimPrefix(sim.URL(), "http://") || u.Host == "" {
			t.Errorf("%s, %v", at, err)
		}
		res, whole, err := fetch(t, sim.HTTPClient(), at, "")
		if err != nil || res.StatusCode != 200 || len(whole) != 100_000 || res.Header.Get("ETag") == "" || res.Header.Get("Accept-Ranges") != "bytes" {
			t.Fatalf("%v, %s, %d bytes, %v", err, res.Status, len(whole), res.Header)
		}
		if res, part, _ := fetch(t, sim.HTTPClient(), at, "bytes=99990-", "If-Range", res.Header.Get("ETag")); res.StatusCode != 206 || !bytes.Equal(part, whole[99_990:]) {
			t.Errorf("%s, %d bytes", res.Status, len(part))
		}
		if res, part, _ := fetch(t, sim.HTTPClient(), at, "bytes=7-15"); res.StatusCode != 206 || !bytes.Equal(part, whole[7:16]) {
			t.Errorf("%s, %d bytes", res.Status, len(part))
		}
		if res, _, _ := fetch(t, sim.HTTPClient(), at, "bytes=100000-"); res.StatusCode != 416 {
			t.Error(res.Status)
		}
		for what, change := range map[string]string{
			"signature": strings.Replace(at, "signature=", "signature=0", 1), "expires": strings.Replace(at, "expires=", "expires=9", 1), "none": at[:strings.Index(at, "?")],
		} {
			if res, _, _ := fetch(t, sim.HTTPClient(), change, ""); res.StatusCode != 403 {
				t.Errorf("%s: %s", what, res.Status)
			}
		}
		for _, header := range []string{"X-Api-Key", "Authorization"} {
			if res, _, _ := fetch(t, sim.HTTPClient(), at, "", header, "secret"); res.StatusCode != 400 {
				t.Errorf("%s: %s", header, res.Status)
			}
		}
		if res, _, _ := fetch(t, sim.HTTPClient(), strings.Replace(at, "a%2Fb%20c", "later", 1), ""); res.StatusCode != 404 {
			t.Error(res.Status)
		}
		time.Sleep(time.Minute)
		if res, _, _ := fetch(t, sim.HTTPClient(), at, ""); res.StatusCode != 403 {
			t.Error(res.Status)
		}
		if _, again, _ := fetch(t, sim.HTTPClient(), resultURL(t, sim, "a/b c"), ""); !bytes.Equal(again, whole) {
			t.Error("another file")
		}
		if s := sim.Stats(); s.Downloads != 5 || s.DownloadsRefused != 7 {
			t.Errorf("%+v", s)
		}
	})
}

// The connection is cut somewhere, and the content is the same in each part.
func TestDownloadsThatAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithDownloads(simserver.Downloads{Size: 50_000, Cut: 1, Rate: 50_000}))
		id := sim.Create(simserver.Job{Duration: -1})
		var got []byte
		for n := 0; len(got) < 50_000 && n < 100; n++ {
			_, part, err := fetch(t, sim.HTTPClient(), resultURL(t, sim, id), fmt.Sprintf("bytes=%d-", len(got)))
			if err == nil && len(got)+len(part) != 50_000 {
				t.Fatalf("%d bytes and no error", len(part))
			}
			got = append(got, part...)
		}
		whole := simserver.StartInMemory(t, simserver.WithDownloads(simserver.Downloads{Size: 50_000}))
		whole.Create(simserver.Job{Duration: -1})
		start := time.Now()
		_, want, _ := fetch(t, whole.HTTPClient(), resultURL(t, whole, id), "")
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes that differ", len(got))
		}
		if took := time.Since(start); took != 0 {
			t.Error(took)
		}
	})
}

// The same over sockets, where the files have a port of their own, and mounted by hand.
func TestDownloadsOverSockets(t *testing.T) {
	sim := simserver.Start(t, simserver.WithDownloads(simserver.Downloads{Size: 1000}))
	id := sim.Create(simserver.Job{Duration: -1})
	at := resultURL(t, sim, id)
	if strings.HasPrefix(at, sim.URL()) {
		t.Errorf("%s is on the host of the API", at)
	}
	for _, client := range []*http.Client{sim.HTTPClient(), http.DefaultClient} {
		if res, body, err := fetch(t, client, at, ""); err != nil || res.StatusCode != 200 || len(body) != 1000 {
			t.Errorf("%v, %s, %d bytes", err, res.Status, len(body))
		}
	}

	mux := http.NewServeMux()
	front := httptest.NewServer(mux)
	defer front.Close()
	own := simserver.New(simserver.WithDownloads(simserver.Downloads{Size: 10, URL: front.URL}))
	defer own.Close()
	own.Create(simserver.Job{ID: "x", Duration: -1})
	mux.Handle("/status/", own)
	mux.Handle("/", own.Downloads())
	_, body, err := fetch(t, http.DefaultClient, front.URL+"/status/x", "")
	var v struct {
		VideoURL string `json:"video_url"`
	}
	if json.Unmarshal(body, &v) != nil || err != nil || !strings.HasPrefix(v.VideoURL, front.URL+"/x.mp4?") {
		t.Fatalf("%s, %v", body, err)
	}
	if res, body, err := fetch(t, http.DefaultClient, v.VideoURL, ""); err != nil || len(body) != 10 {
		t.Errorf("%v, %s, %d bytes", err, res.Status, len(body))
	}
}

func TestDownloadsRefusesWhatCannotBe(t *testing.T) {
	for want, d := range map[string]simserver.Downloads{
		"Size": {Cut: 0.1}, "Cut": {Size: 1, Cut: 2}, "Expires": {Size: 1, Rate: -1},
	} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), "Downloads."+want) {
					t.Errorf("panic %v, want Downloads.%s", r, want)
				}
			}()
			simserver.New(simserver.WithDownloads(d))
		}()
	}
}
