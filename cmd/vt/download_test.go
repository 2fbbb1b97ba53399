package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

// A fileStep is what the host of the files does with one request.
type fileStep struct {
	code   int
	header string // as "Name: value|Name: value"
	body   string
	length int64         // as announced; 0: of the body; -1: unknown
	broken bool          // the connection breaks behind the body
	silent time.Duration // before the end of the body
	want   string        // the Range and If-Range of the request, with a space between
}

// scripted is the host of the files: the last step is repeated.
func scripted(t *testing.T, steps []fileStep, asked *[]string) roundTripper {
	return func(r *http.Request) (*http.Response, error) {
		n := min(len(*asked), len(steps)-1)
		step := steps[n]
		*asked = append(*asked, r.URL.String())
		if got := strings.TrimSpace(r.Header.Get("Range") + " " + r.Header.Get("If-Range")); got != step.want {
			t.Errorf("request %d asks for %q, want %q", n+1, got, step.want)
		}
		if step.code == 0 {
			return nil, errors.New("connection refused")
		}
		header := http.Header{}
		for line := range strings.SplitSeq(step.header, "|") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				header.Add(name, value)
			}
		}
		length := step.length
		if length == 0 {
			length = int64(len(step.body))
		}
		body := &scriptedBody{r: r, text: strings.NewReader(step.body), step: step}
		return &http.Response{StatusCode: step.code, Status: fmt.Sprint(step.code, " ", http.StatusText(step.code)), Header: header, Body: body, ContentLength: length, Request: r}, nil
	}
}

type scriptedBody struct {
	r    *http.Request
	text *strings.Reader
	step fileStep
}

func (b *scriptedBody) Read(p []byte) (int, error) {
	if b.text.Len() > 0 {
		return b.text.Read(p)
	}
	select {
	case <-b.r.Context().Done():
		return 0, b.r.Context().Err()
	case <-time.After(b.step.silent):
	}
	if b.step.broken {
		return 0, io.ErrUnexpectedEOF
	}
	return 0, io.EOF
}

func (b *scriptedBody) Close() error { return nil }

// Whatever the host of the files does, the file is whole in the end or not there, and what has
// arrived is not asked for again where the server lets that be known.
func TestDownloadAgainstHostsOfAllKinds(t *testing.T) {
	const tag = `ETag: "v1"`
	half := fileStep{code: 200, header: tag, body: "01234", length: 10, broken: true}
	rest := fileStep{code: 206, header: tag + "|Content-Range: bytes 5-9/10", body: "56789", want: `bytes=5- "v1"`}
	whole := fileStep{code: 200, header: tag, body: "0123456789"}
	for _, test := range []struct {
		name  string
		steps []fileStep
		there string // a file of that name, before
		file  string // "": there is none in the end
		says  string
	}{
		{"all at once", []fileStep{whole}, "", "0123456789", "saved as"},
		{"in two parts", []fileStep{half, rest}, "", "0123456789", "saved as"},
		{"of unknown length", []fileStep{{code: 200, body: "0123456789", length: -1}}, "", "0123456789", "saved as"},
		{"broken, and no tag to go on by", []fileStep{{code: 200, body: "01234", length: 10, broken: true}, {code: 200, body: "0123456789"}}, "", "0123456789", "saved as"},
		{"broken, and a weak tag", []fileStep{{code: 200, header: `ETag: W/"v1"`, body: "01234", length: 10, broken: true}, {code: 200, body: "0123456789"}}, "", "0123456789", "saved as"},
		{"a server without parts", []fileStep{half, {code: 200, header: tag, body: "0123456789", want: rest.want}}, "", "0123456789", "saved as"},
		{"another file meanwhile", []fileStep{half, {code: 200, header: `ETag: "v2"`, body: "abcdefghij", want: rest.want}}, "", "abcdefghij", "saved as"},
		{"a part of another file", []fileStep{half, {code: 206, header: `ETag: "v2"|Content-Range: bytes 5-9/10`, body: "fghij", want: rest.want}, {code: 200, header: `ETag: "v2"`, body: "abcdefghij"}}, "", "abcdefghij", "saved as"},
		{"a part from elsewhere", []fileStep{half, {code: 206, header: tag + "|Content-Range: bytes 0-9/10", body: "0123456789", want: rest.want}, whole}, "", "0123456789", "saved as"},
		{"a part without a word of its range", []fileStep{half, {code: 206, body: "56789", want: rest.want}, whole}, "", "0123456789", "saved as"},
		{"nothing is missing", []fileStep{{code: 200, header: tag, body: "0123456789", length: 10, broken: true}, {code: 416, header: "Content-Range: bytes */10", want: `bytes=10- "v1"`}}, "", "0123456789", "saved as"},
		{"too much is there", []fileStep{half, {code: 416, header: "Content-Range: bytes */3", want: rest.want}, whole}, "", "0123456789", "saved as"},
		{"shorter than announced", []fileStep{{code: 200, header: tag, body: "01234", length: 10}, rest}, "", "0123456789", "saved as"},
		{"expired on the way", []fileStep{half, {code: 403, want: rest.want}, rest}, "", "0123456789", "saved as"},
		{"expired, and gone for a while", []fileStep{{code: 404}, {code: 410}, {code: 401}, whole}, "", "0123456789", "saved as"},
		{"always expired", []fileStep{{code: 403}}, "", "", "the address has expired: 403 Forbidden"},
		{"trouble", []fileStep{{}, {code: 503}, {code: 429}, {code: 500}, whole}, "", "0123456789", "saved as"},
		{"nothing but trouble", []fileStep{{code: 500}}, "", "", "not saved as"},
		{"refused", []fileStep{{code: 400}}, "", "", "the result's server answers 400 Bad Request"},
		{"silence", []fileStep{{code: 200, header: tag, body: "01234", length: 10, silent: time.Hour}, rest}, "", "0123456789", "saved as"},
		{"slow", []fileStep{{code: 200, header: tag, body: "0123456789", silent: 29 * time.Second}}, "", "0123456789", "saved as"},
		{"there already", []fileStep{whole}, "9876543210", "9876543210", "saved as"},
		{"there, and of another size", []fileStep{whole}, "987", "0123456789", "saved as"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := simserver.StartInMemory(t)
				sim.Create(simserver.Job{ID: "a", Duration: -1, Result: map[string]any{"video_url": "http://files.test/x.mp4?s=1"}})
				var asked []string
				files := scripted(t, test.steps, &asked)
				web := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					if r.URL.Host == "files.test" {
						return files(r)
					}
					return sim.HTTPClient().Transport.RoundTrip(r)
				})}
				dir := t.TempDir()
				path := filepath.Join(dir, "a.mp4")
				if test.there != "" {
					if err := os.WriteFile(path, []byte(test.there), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				r := call{args: []string{"wait", "-api", "heygen", "-url", sim.URL(), "-outage", "2m", "-download", dir, "a"}, web: web}.run()
				code := exitOK
				if test.file == "" {
					code = exitError
				}
				wantCode(t, r, code)
				if !strings.Contains(r.stdout, test.says) {
					t.Errorf("%q is missing in\n%s", test.says, r.stdout)
				}
				got, err := os.ReadFile(path)
				if string(got) != test.file || err != nil && test.file != "" {
					t.Errorf("the file has %q, %v; want %q", got, err, test.file)
				}
				if test.file != "" {
					resultFiles(t, dir) // nothing is left over
				}
				if n := len(asked); test.file != "" && n < len(test.steps) {
					t.Errorf("%d requests of %d", n, len(test.steps))
				}
			})
		})
	}
}

// What is left of a download that was broken off is used by the next one, and one that another
// process is writing is left alone.
func TestDownloadGoesOn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.mp4")
	p, err := openPart(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.restart(`"v1"`), p.write([]byte("0123"))); err != nil {
		t.Fatal(err)
	}
	if _, err := openPart(path); err == nil || !strings.Contains(err.Error(), "is being written by another process") {
		t.Errorf("opened twice: %v", err)
	}
	p.close()
	q, err := openPart(path)
	if err != nil || q.size != 4 || q.tag != `"v1"` {
		t.Fatalf("%+v, %v", q, err)
	}
	if err := errors.Join(q.write([]byte("45")), q.finish(path)); err != nil {
		t.Error(err)
	}
	q.close()
	if got := resultFiles(t, dir); len(got) != 1 || !bytes.Equal(got["x.mp4"], []byte("012345")) {
		t.Errorf("%q", got)
	}
}

// No name of a video, a language or a job leads out of the folder, hides the file, or is
// given twice.
func TestNamesOfFiles(t *testing.T) {
	for _, test := range []struct {
		submit, language, id, address, want string
	}{
		{"https://x.test/films/holiday.mov", "German", "j", "http://f.test/a.mp4?x=.exe", "holiday.German.mp4"},
		{"https://x.test/films/", "German", "j", "http://f.test/a.webm", "films.German.webm"},
		{"https://x.test", "German", "j", "http://f.test/a", "video.German.mp4"},
		{"https://x.test/../../etc/passwd", "../../x", "j", "http://f.test/a.mp4", "passwd..._.._x.mp4"},
		{"", "", "../../../etc/x", "http://f.test/a.mp4", "_.._.._etc_x.mp4"},
		{"", "", "...", "http://f.test/a.mp4", "result.mp4"},
		{"", "", "a/b\\c:d\x1b\n", "http://f.test/a.m%2Fp4", "a_b_c_d__.mp4"},
		{"", "", "job", "http://f.test/a.tooolong", "job.mp4"},
		{"", "", strings.Repeat("ü", 300), "http://f.test/a.mp4", strings.Repeat("ü", 100) + ".mp4"},
	} {
		d := &downloader{w: &waitRun{f: &waitFlags{submit: test.submit}}, names: map[string]bool{}}
		j := &job{id: test.id, language: test.language}
		first, second := d.name(j, test.address), d.name(j, test.address)
		if first != test.want || second == first || filepath.Base(second) != second {
			t.Errorf("%+v: %q and %q", test, first, second)
		}
	}
}

// The live lines show how far each result is, and stay within the screen.
func TestTerminalShowsDownloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithDownloads(simserver.Downloads{Size: 1e6, Rate: 1e5}), simserver.WithDurations(simserver.Fixed(time.Second)))
		term := &fakeTerminal{}
		r := call{args: submitting(sim, "-language", "German,French", "-download", t.TempDir()), web: sim.HTTPClient(), stdout: term}.run()
		wantCode(t, r, exitOK)
		if len(term.errs) > 0 {
			t.Error(term.errs)
		}
		all := strings.Join(term.writes, "")
		for _, part := range []string{`downloading [1-9][0-9]?% of 1\.0 MB`, `German \(job-1\)`, `saved as`} {
			if !regexp.MustCompile(part).MatchString(all) {
				t.Errorf("%s was never shown", part)
			}
		}
		if last := strings.Join(slices.DeleteFunc(slices.Clone(term.screen), func(s string) bool { return s == "" }), "\n"); strings.Contains(last, "downloading") {
			t.Errorf("in the end the screen has\n%s", last)
		}
	})
}
