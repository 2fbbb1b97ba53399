package testserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/internal/testserver"
)

const body = `{"result":"completed"}`

// everywhere runs a test over TCP in real time and over pipes in a bubble.
func everywhere(t *testing.T, test func(t *testing.T, start func(...testserver.Step) *testserver.Server)) {
	t.Helper()
	t.Run("tcp", func(t *testing.T) {
		test(t, func(script ...testserver.Step) *testserver.Server { return testserver.Start(t, script...) })
	})
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			test(t, func(script ...testserver.Step) *testserver.Server { return testserver.StartInMemory(t, script...) })
		})
	})
}

// get makes one request and reads the answer to its end.
func get(ctx context.Context, s *testserver.Server, path string) (resp *http.Response, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+path, nil)
	if err != nil {
		return nil, "", err
	}
	resp, err = s.Client().Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// What net/http makes of each step: the answer, or the error and where it came.
func TestSteps(t *testing.T) {
	const inHead, inBody = "head", "body"
	reset := func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
	contains := func(words string) func(error) bool {
		return func(err error) bool { return strings.Contains(err.Error(), words) }
	}
	timeout := func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
	for _, tt := range []struct {
		name   string
		step   testserver.Step
		code   int
		body   string
		fails  string // where; "" is nowhere
		is     func(error) bool
		hangs  bool // fails only when the client's time is up
		closes bool // the next request needs another connection
		last   bool // what becomes of the next request is net/http's race
	}{
		{name: "Pending", step: testserver.Pending(), code: 200, body: `{"result":"pending"}`},
		{name: "Completed", step: testserver.Completed(), code: 200, body: body},
		{name: "Failed", step: testserver.Failed("no \"audio\"\a"), code: 200, body: `{"result":"error","message":"no \"audio\"\u0007"}`},
		{name: "FailedSilently", step: testserver.Failed(""), code: 200, body: `{"result":"error"}`},
		{name: "JSON", step: testserver.JSON(503, `{}`, "Retry-After: 5"), code: 503, body: `{}`},
		{name: "Reply204", step: testserver.Reply(204, "never sent"), code: 204},
		{name: "Handler", step: testserver.Handler(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "999")
			w.WriteHeader(418)
			io.WriteString(w, r.URL.Path)
		}), code: 418, body: "/status/a"},
		{name: "Delay", step: testserver.Delay(20*time.Millisecond, testserver.Completed()), code: 200, body: body},
		{name: "Closing", step: testserver.Closing(testserver.Completed()), code: 200, body: body, closes: true},
		{name: "SlowDrip", step: testserver.SlowDrip(body, time.Millisecond), code: 200, body: body},
		{name: "SlowHead", step: testserver.SlowHead(body, time.Millisecond), code: 200, body: body},
		{name: "Raw", step: testserver.Raw("HTTP/1.0 299 Odd\r\n\r\nto the end"), code: 299, body: "to the end", closes: true},

		{name: "Drop", step: testserver.Drop(), fails: inHead, is: func(err error) bool { return errors.Is(err, io.EOF) }, closes: true},
		{name: "Reset", step: testserver.Reset(), fails: inHead, is: reset, closes: true},
		{name: "Silence", step: testserver.Silence(), fails: inHead, is: timeout, hangs: true, closes: true},
		{name: "HalfBody", step: testserver.HalfBody(body), code: 200, body: body[:11], fails: inBody,
			is: func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }, closes: true},
		{name: "HalfBodyReset", step: testserver.HalfBodyReset(body), code: 200, body: body[:11], fails: inBody, is: reset, closes: true},
		{name: "HalfBodySilence", step: testserver.HalfBodySilence(body), code: 200, body: body[:11], fails: inBody, is: timeout, hangs: true, closes: true},
		{name: "TooLong", step: testserver.WrongLength(body, 100), code: 200, body: body, fails: inBody, is: timeout, hangs: true, closes: true},
		{name: "TooShort", step: testserver.WrongLength(body, 9), code: 200, body: body[:9], last: true},
		{name: "Garbage", step: testserver.Garbage(), fails: inHead, is: contains("malformed HTTP"), closes: true},
		{name: "EndlessHeaders", step: testserver.EndlessHeaders(), fails: inHead, is: contains("headers exceeded"), closes: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, start func(...testserver.Step) *testserver.Server) {
				s := start(tt.step, testserver.Completed())
				patience := time.Minute
				if tt.hangs {
					patience = time.Second
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				resp, got, err := get(ctx, s, "/status/a")
				where := ""
				switch {
				case err != nil && resp == nil:
					where = inHead
				case err != nil:
					where = inBody
				}
				if where != tt.fails {
					t.Fatalf("failed in %q with %v, want in %q", where, err, tt.fails)
				}
				if err != nil && !tt.is(err) {
					t.Errorf("unexpected kind of error: %v", err)
				}
				if resp != nil && resp.StatusCode != tt.code {
					t.Errorf("status code %d, want %d", resp.StatusCode, tt.code)
				}
				if got != tt.body {
					t.Errorf("body %q, want %q", got, tt.body)
				}
				if tt.last {
					return
				}
				if _, got, err := get(t.Context(), s, "/"); err != nil || got != body {
					t.Errorf("the next step: %q, %v", got, err)
				}
				want := 1
				if tt.closes {
					want = 2
				}
				if got := s.Connections(); got != want {
					t.Errorf("%d connections, want %d", got, want)
				}
			})
		})
	}
}

func TestHeaders(t *testing.T) {
	s := testserver.Start(t, testserver.Pending("Retry-After: 5"),
		testserver.Reply(200, "x", "Date: Sun, 06 Nov 1994 08:49:37 GMT"))
	resp, _, err := get(t.Context(), s, "/")
	if err != nil {
		t.Fatal(err)
	}
	if h := resp.Header; h.Get("Retry-After") != "5" || h.Get("Content-Type") != "application/json" || h.Get("Date") == "" {
		t.Errorf("header %v", h)
	}
	resp, _, err = get(t.Context(), s, "/")
	if err != nil {
		t.Fatal(err)
	}
	if d := resp.Header.Values("Date"); !slices.Equal(d, []string{"Sun, 06 Nov 1994 08:49:37 GMT"}) {
		t.Errorf("Date %q", d)
	}
}

func TestScriptRepeatsItsLastStepUntilMoreIsAppended(t *testing.T) {
	s := testserver.Start(t, testserver.Times(0, testserver.Drop()), testserver.Times(2, testserver.Reply(200, "a")), testserver.Reply(200, "b"))
	var got strings.Builder
	ask := func(n int) {
		for range n {
			_, b, err := get(t.Context(), s, "/")
			if err != nil {
				t.Fatal(err)
			}
			got.WriteString(b)
		}
	}
	ask(5)
	s.Then(testserver.Reply(200, "c"), testserver.Reply(200, "d"))
	ask(3)
	if got.String() != "aabbbcdd" {
		t.Errorf("got %s, want aabbbcdd", got.String())
	}
}

func TestRequestsAreRecordedAsTheyCame(t *testing.T) {
	everywhere(t, func(t *testing.T, start func(...testserver.Step) *testserver.Server) {
		s := start(testserver.Pending(), testserver.Closing(testserver.Pending("Connection: close")), testserver.Pending())
		before := time.Now()
		get(t.Context(), s, "/status/a%2Fb?x=%20")
		get(t.Context(), s, "/2")
		req, _ := http.NewRequest(http.MethodPost, s.URL()+"/3", strings.NewReader("hello"))
		req.Header.Set("X-Api-Key", "k")
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()

		got := s.Requests()
		if len(got) != 3 {
			t.Fatalf("%d requests, want 3", len(got))
		}
		if r := got[0]; r.Method != "GET" || r.URI != "/status/a%2Fb?x=%20" || "http://"+r.Host != s.URL() || r.Conn != 1 {
			t.Errorf("first: %+v", r)
		}
		if r := got[0]; r.Time.Before(before) || r.Time.After(time.Now()) {
			t.Errorf("first at %v", r.Time)
		}
		if got[1].Conn != 1 || got[2].Conn != 2 {
			t.Errorf("connections %d, %d; want 1, 2", got[1].Conn, got[2].Conn)
		}
		if r := got[2]; r.Method != "POST" || string(r.Body) != "hello" || r.Header.Get("X-Api-Key") != "k" {
			t.Errorf("third: %+v", r)
		}
	})
}

// The server sees what the caller of net/http does not.
func TestSilentRepetitionIsCounted(t *testing.T) {
	everywhere(t, func(t *testing.T, start func(...testserver.Step) *testserver.Server) {
		s := start(testserver.Pending(), testserver.Drop(), testserver.Completed())
		get(t.Context(), s, "/1")
		if _, got, err := get(t.Context(), s, "/2"); err != nil || got != body {
			t.Fatalf("%q, %v", got, err)
		}
		var uris []string
		for _, r := range s.Requests() {
			uris = append(uris, r.URI)
		}
		if !slices.Equal(uris, []string{"/1", "/2", "/2"}) {
			t.Errorf("requests %v", uris)
		}
	})
}

func TestClientReachesTheServerUnderAnyHost(t *testing.T) {
	everywhere(t, func(t *testing.T, start func(...testserver.Step) *testserver.Server) {
		s := start(testserver.Redirect("http://elsewhere.invalid/x"), testserver.Completed())
		if _, got, err := get(t.Context(), s, "/"); err != nil || got != body {
			t.Fatalf("%q, %v", got, err)
		}
		if r := s.Requests()[1]; r.Host != "elsewhere.invalid" || r.URI != "/x" {
			t.Errorf("redirected to %s %s", r.Host, r.URI)
		}
	})
}

func TestRestartOnTheSamePort(t *testing.T) {
	everywhere(t, func(t *testing.T, start func(...testserver.Step) *testserver.Server) {
		s := start(testserver.Pending(), testserver.Silence(), testserver.Completed())
		get(t.Context(), s, "/1")
		url := s.URL()

		failed := make(chan error)
		go func() {
			_, _, err := get(t.Context(), s, "/2")
			failed <- err
		}()
		s.AwaitRequests(2)
		s.Stop()
		s.Stop()
		// net/http repeats the request, whose connection had served one before.
		if err := <-failed; !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("in flight at the stop: %v", err)
		}
		if _, _, err := get(t.Context(), s, "/3"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("while stopped: %v", err)
		}

		s.Restart()
		if s.URL() != url {
			t.Errorf("URL was %s, is %s", url, s.URL())
		}
		s.Restart() // while running
		if _, got, err := get(t.Context(), s, "/4"); err != nil || got != body {
			t.Errorf("after the restart: %q, %v", got, err)
		}
		if n := len(s.Requests()); n != 3 {
			t.Errorf("%d requests over both lives, want 3", n)
		}
	})
}

func TestVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Delay(time.Hour, testserver.Pending()),
			testserver.SlowDrip(body, time.Minute), testserver.Silence())
		start := time.Now()
		took := func(want time.Duration) {
			t.Helper()
			if got := time.Since(start); got != want {
				t.Errorf("took %v, want %v", got, want)
			}
			start = time.Now()
		}
		get(t.Context(), s, "/")
		took(time.Hour)
		get(t.Context(), s, "/")
		took(time.Duration(len(body)) * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Hour)
		defer cancel()
		get(ctx, s, "/")
		took(10 * time.Hour)
	})
}

// A client that leaves ends the step at once, so that nothing is left waiting.
func TestClientLeaving(t *testing.T) {
	for name, st := range map[string]testserver.Step{
		"Silence":         testserver.Silence(),
		"Delay":           testserver.Delay(time.Hour, testserver.Pending()),
		"SlowDrip":        testserver.SlowDrip(body, time.Hour),
		"SlowHead":        testserver.SlowHead(body, time.Hour),
		"HalfBodySilence": testserver.HalfBodySilence(body),
		"EndlessBody":     testserver.Delay(time.Second, testserver.EndlessBody()),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testserver.StartInMemory(t, st)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				if _, _, err := get(ctx, s, "/"); err == nil {
					t.Error("no error")
				}
				synctest.Wait()
				if d := time.Since(start); d != time.Second {
					t.Errorf("left after %v", d)
				}
				if n := s.OpenConnections(); n != 0 {
					t.Errorf("%d connections still open", n)
				}
			})
		})
	}
}

// Closing ends each step in its middle; the bubble fails the test if one stays.
func TestCloseEndsEveryStep(t *testing.T) {
	for name, st := range map[string]testserver.Step{
		"idle":            testserver.Pending(),
		"Silence":         testserver.Silence(),
		"Delay":           testserver.Delay(time.Hour, testserver.Pending()),
		"SlowDrip":        testserver.SlowDrip(body, time.Hour),
		"HalfBodySilence": testserver.HalfBodySilence(body),
		"TooLong":         testserver.WrongLength(body, 100),
		"Handler":         testserver.Handler(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, start func(...testserver.Step) *testserver.Server) {
				s := start(st)
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() { get(context.Background(), s, "/") })
				}
				s.AwaitRequests(3)
				s.Close()
				s.Close()
				wg.Wait()
				if _, _, err := get(t.Context(), s, "/"); err == nil {
					t.Error("answered after Close")
				}
			})
		})
	}
}

func TestEndlessBody(t *testing.T) {
	everywhere(t, func(t *testing.T, start func(...testserver.Step) *testserver.Server) {
		s := start(testserver.EndlessBody())
		resp, err := s.Client().Get(s.URL())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.CopyN(io.Discard, resp.Body, 5<<20); err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		resp.Body.Close()
	})
}

func TestGzipBomb(t *testing.T) {
	for _, size := range []int{64, 1000, 1 << 20, 5<<20 + 7} {
		s := testserver.Start(t, testserver.GzipBomb(size))
		_, got, err := get(t.Context(), s, "/")
		if err != nil || len(got) != size {
			t.Fatalf("%d bytes, %v; want %d", len(got), err, size)
		}
		var v struct{ Result string }
		if err := json.Unmarshal([]byte(got), &v); err != nil || v.Result != "completed" {
			t.Errorf("%+v, %v", v, err)
		}
	}
	// On the wire it is small.
	s := testserver.Start(t, testserver.GzipBomb(100<<20))
	req, _ := http.NewRequest(http.MethodGet, s.URL(), nil)
	req.Header.Set("Accept-Encoding", "gzip") // asked for, so left alone
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) > 200<<10 {
		t.Errorf("%d bytes on the wire, %v", len(b), err)
	}
}

func TestHead(t *testing.T) {
	for _, st := range []testserver.Step{testserver.Completed(), testserver.SlowDrip(body, time.Microsecond)} {
		s := testserver.Start(t, st)
		for range 2 {
			resp, err := s.Client().Head(s.URL())
			if err != nil || resp.ContentLength != int64(len(body)) {
				t.Fatalf("%v, %v", resp, err)
			}
			resp.Body.Close()
		}
		if s.Connections() != 1 {
			t.Errorf("%d connections", s.Connections())
		}
	}
}

// What is no request takes no step.
func TestUnreadableRequest(t *testing.T) {
	everywhere(t, func(t *testing.T, start func(...testserver.Step) *testserver.Server) {
		s := start(testserver.Completed())
		c, err := s.DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "\x16\x03\x01\r\n\r\n")
		got, _ := io.ReadAll(c)
		c.Close()
		if !bytes.HasPrefix(got, []byte("HTTP/1.1 400 ")) || len(s.Requests()) != 0 || s.Connections() != 1 {
			t.Errorf("%q, %d requests, %d connections", got, len(s.Requests()), s.Connections())
		}
	})
}

// A request sent ahead, before the answer to the one before it.
func TestPipelined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Delay(time.Minute, testserver.Reply(200, "x")))
		c, err := s.DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		go io.WriteString(c, strings.Repeat("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 2))
		var b [4096]byte
		for range 2 {
			if _, err := c.Read(b[:]); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(start); d != 2*time.Minute {
			t.Errorf("took %v", d)
		}
		c.Close()
	})
}

// recorder is a test that can fail without failing this one.
type recorder struct {
	testing.TB
	mu  sync.Mutex
	got []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, format)
}

func TestNoScriptFailsTheTest(t *testing.T) {
	tb := &recorder{TB: t}
	s := testserver.Start(tb)
	resp, _, err := get(t.Context(), s, "/")
	if err != nil || resp.StatusCode != 500 {
		t.Fatalf("%v, %v", resp, err)
	}
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if len(tb.got) != 1 {
		t.Errorf("errors %q, want one", tb.got)
	}
}

func TestResetIsAnRST(t *testing.T) {
	s := testserver.Start(t, testserver.Reset())
	c, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
}
