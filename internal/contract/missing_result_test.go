package contract_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// A playback answers with the bodies of a script, the last one for ever, and notes
// when it was asked.
type playback struct {
	mu     sync.Mutex
	began  time.Time
	asked  []time.Duration
	script []string
}

const (
	hgRunning = `{"data":{"id":"j","status":"running","video_url":null}}`
	hgBare    = `{"data":{"id":"j","status":"completed","video_url":null}}`
	hgDone    = `{"data":{"id":"j","status":"completed","video_url":"https://v.test/1"}}`
)

func playing(script ...string) *playback { return &playback{began: time.Now(), script: script} }

// RoundTrip takes an entry that begins with a number for a status code and what
// follows it, after a line break, for a header.
func (h *playback) RoundTrip(r *http.Request) (*http.Response, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, time.Since(h.began))
	body := h.script[0]
	if len(h.script) > 1 {
		h.script = h.script[1:]
	}
	switch {
	case strings.HasPrefix(body, "503"):
		return respond(r, 503, ""), nil
	case strings.HasPrefix(body, "429"):
		return respond(r, 429, "", strings.TrimPrefix(body, "429\n")), nil
	case strings.HasPrefix(body, "403"):
		return respond(r, 403, ""), nil
	case strings.HasPrefix(body, "404"):
		return respond(r, 404, ""), nil
	}
	body, header, _ := strings.Cut(body, "\n")
	if header != "" {
		return respond(r, 200, body, header), nil
	}
	return respond(r, 200, body), nil
}

func (h *playback) times() []time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.asked)
}

func (h *playback) client(t *testing.T, opts ...vtclient.Option) *vtclient.Client {
	t.Helper()
	endpoint := vtclient.HeyGenV3()
	endpoint.Bulk = vtclient.Bulk{} // so that a first check does not wait for others
	c, err := vtclient.New("https://api.heygen.test", append([]vtclient.Option{
		vtclient.WithEndpoint(endpoint), vtclient.WithHTTPClient(&http.Client{Transport: h}),
		vtclient.WithPolling(vtclient.Constant(10 * time.Second)), every(time.Second, 4),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func atSeconds(n ...int) (d []time.Duration) {
	for _, n := range n {
		d = append(d, time.Duration(n)*time.Second)
	}
	return d
}

// everySecond returns the seconds from 0 to last.
func everySecond(last int) (d []time.Duration) {
	for n := range last + 1 {
		d = append(d, time.Duration(n)*time.Second)
	}
	return d
}

func TestWaitLooksAgainWhereTheResultIsMissing(t *testing.T) {
	const long = "429\nRetry-After: 3600"
	for _, tt := range []struct {
		name    string
		script  []string
		asked   []time.Duration // from the start
		took    time.Duration
		missing bool   // handed over without the result
		err     string // in the error; "": none
	}{
		{"the URL comes with the second look", []string{hgRunning, hgBare, hgBare, hgDone}, atSeconds(0, 10, 11, 13), 13 * time.Second, false, ""},
		{"completed at the first check", []string{hgBare, hgDone}, atSeconds(0, 1), time.Second, false, ""},
		{"the URL never comes", []string{hgRunning, hgBare}, atSeconds(0, 10, 11, 13, 17, 25, 40), 40 * time.Second, true, ""},
		{"a fault is retried meanwhile", []string{hgBare, "503", hgDone}, atSeconds(0, 1, 2), 2 * time.Second, false, ""},
		{"nothing but faults follows", []string{hgBare, "503"}, everySecond(30), 30 * time.Second, true, ""},
		{"a 429 that holds for longer than the bound", []string{hgBare, long}, atSeconds(0, 1), 30 * time.Second, true, ""},
		{"an answer that asks for more patience than the bound", []string{hgBare + "\nRetry-After: 100"}, atSeconds(0), 30 * time.Second, true, ""},
		{"an answer that asks for some patience", []string{hgBare + "\nRetry-After: 7", hgDone}, atSeconds(0, 7), 7 * time.Second, false, ""},
		{"a final answer ends it", []string{hgBare, "403"}, atSeconds(0, 1), time.Second, false, "403 Forbidden"},
		{"a replica that lags does not", []string{hgBare, "404", hgDone}, atSeconds(0, 1, 2), 2 * time.Second, false, ""},
		{"it is pending after all", []string{hgBare, hgRunning, hgBare, hgDone}, atSeconds(0, 1, 11, 12), 12 * time.Second, false, ""},
		{"a failed job needs no result", []string{`{"data":{"status":"failed","failure_message":"no speech"}}`}, atSeconds(0), 0, false, `failed: "no speech"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := playing(tt.script...)
				began := time.Now()
				st, err := h.client(t, vtclient.WithBreaker(nil)).Wait(t.Context(), "j")
				took := time.Since(began)
				if got := h.times(); !slices.Equal(got, tt.asked) || took != tt.took {
					t.Errorf("asked at %v and ended at %v, want %v and %v", got, took, tt.asked, tt.took)
				}
				if tt.err != "" {
					if err == nil || !strings.Contains(err.Error(), tt.err) {
						t.Errorf("error %v, want %s", err, tt.err)
					}
					return
				}
				if err != nil || st.State != vtclient.StateCompleted || st.ResultMissing != tt.missing || len(st.Body) == 0 {
					t.Errorf("%+v, %v", st, err)
				}
			})
		})
	}
}

// The loop of a Watch must not take the job for over twice.
func TestWatchShowsAMissingResultAsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type seen struct {
			state   vtclient.State
			missing bool
		}
		var got []seen
		for st, err := range playing(hgRunning, hgBare, hgDone).client(t).Watch(t.Context(), "j") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, seen{st.State, st.ResultMissing})
		}
		want := []seen{{"pending", false}, {"pending", true}, {"completed", false}}
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

func TestStatusReportsAMissingResultAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := playing(hgBare, hgBare, hgDone)
		c := h.client(t)
		for i, want := range []struct {
			after           time.Duration
			missing, cached bool
		}{
			{0, true, false},
			{500 * time.Millisecond, true, true}, // as long as a pending one
			{time.Second, true, false},
			{2 * time.Second, false, false},
			{4 * time.Minute, false, true},
		} {
			time.Sleep(want.after)
			st, err := c.Status(t.Context(), "j")
			if err != nil || st.State != vtclient.StateCompleted || st.ResultMissing != want.missing || st.Cached != want.cached {
				t.Errorf("%d: %+v, %v, want %+v", i, st, err, want)
			}
		}
	})
}

// A cache that is not ours must not end a wait with half an answer either.
func TestWaitTakesNoMissingResultFromTheCache(t *testing.T) {
	for _, cache := range []vtclient.Cache[vtclient.Status]{
		vtclient.NewMemoryCache[vtclient.Status](8),
		struct {
			vtclient.Cache[vtclient.Status]
		}{vtclient.NewMemoryCache[vtclient.Status](8)},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := playing(hgBare, hgDone)
			c := h.client(t, vtclient.WithCache(cache), vtclient.WithCacheTTL(time.Minute, time.Minute))
			c.Status(t.Context(), "j")
			if st, err := c.Wait(t.Context(), "j"); err != nil || st.ResultMissing || st.Cached {
				t.Errorf("%+v, %v", st, err)
			}
			if st, err := c.Wait(t.Context(), "j"); err != nil || st.ResultMissing || !st.Cached {
				t.Errorf("again: %+v, %v", st, err)
			}
		})
	}
}

// lessonNotes is a polling backoff that records its completions.
type lessonNotes struct {
	vtclient.Constant
	mu      sync.Mutex
	lessons []vtclient.Completion
}

func (l *lessonNotes) Learn(c vtclient.Completion) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lessons = append(l.lessons, c)
}

func TestTheJobEndedWhenItWasFirstSeenCompleted(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script []string
		limit  time.Duration // of the wait
	}{
		{"the result comes late", []string{hgRunning, hgBare, hgBare, hgBare, hgDone}, time.Hour},
		{"the result never comes", []string{hgRunning, hgBare}, time.Hour},
		{"the caller leaves before the result comes", []string{hgRunning, hgBare}, 15 * time.Second},
		{"it is pending after all", []string{hgRunning, hgBare, hgRunning, hgDone}, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &lessonNotes{Constant: vtclient.Constant(10 * time.Second)}
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				defer cancel()
				playing(tt.script...).client(t, vtclient.WithPolling(l)).Wait(ctx, "j")
				want := []vtclient.Completion{{PendingAt: 0, DoneBy: 10 * time.Second}}
				if !slices.Equal(l.lessons, want) {
					t.Errorf("%+v, want %+v", l.lessons, want)
				}
			})
		})
	}
}

func TestAWaitThatEndsWithoutTheResultReportsThat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		st, err := playing(hgRunning, hgBare).client(t).Wait(ctx, "j")
		var w *vtclient.WaitError
		if !errors.As(err, &w) || !errors.Is(err, context.DeadlineExceeded) || !w.Last.ResultMissing || !st.ResultMissing || st.State != vtclient.StatePending ||
			!strings.Contains(err.Error(), "last answer: completed, but without its result, at ") {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// An outage tolerance and a long pause end the wait for a job that may still be
// pending; of this one it is known that it is completed.
func TestNoOutageEndsTheWaitForAMissingResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := playing(hgBare, "503")
		st, err := h.client(t, vtclient.WithOutageTolerance(0)).Wait(t.Context(), "j")
		if err != nil || st.State != vtclient.StateCompleted || !st.ResultMissing {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

func TestAHintIsFollowedWhileTheResultIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := playing(hgBare, hgBare, hgBare, hgBare, hgDone)
		c := h.client(t)
		time.AfterFunc(9*time.Second, func() { c.Hint("j") })
		st, err := c.Wait(t.Context(), "j")
		if want := atSeconds(0, 1, 3, 7, 9); err != nil || st.ResultMissing || !slices.Equal(h.times(), want) {
			t.Errorf("%+v, %v, asked at %v, want %v", st, err, h.times(), want)
		}
	})
}

func TestOnlyACompletedAnswerCanLackItsResult(t *testing.T) {
	for _, state := range []vtclient.State{vtclient.StatePending, vtclient.StateFailed} {
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, ""), nil },
			vtclient.WithEndpoint(vtclient.Endpoint{Path: "/{id}", Decode: func(vtclient.Answer) (vtclient.Status, error) {
				return vtclient.Status{State: state, ResultMissing: true}, nil
			}}))
		if st, err := c.Status(t.Context(), "j"); err != nil || st.State != state || st.ResultMissing {
			t.Errorf("%s: %+v, %v", state, st, err)
		}
	}
}

func TestA429ForAnotherJobOnlyStopsTheLooksForAMissingResult(t *testing.T) {
	for _, pause := range []string{"100", "3600"} { // within and above WithMaxRetryAfter
		synctest.Test(t, func(t *testing.T) {
			h := playing(hgBare, "429\nRetry-After: "+pause)
			c := h.client(t)
			time.AfterFunc(500*time.Millisecond, func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				c.Status(ctx, "other")
			})
			began := time.Now()
			st, err := c.Wait(t.Context(), "j")
			if took := time.Since(began); err != nil || !st.ResultMissing || took != 30*time.Second || len(h.times()) != 2 {
				t.Errorf("%s s: %+v, %v after %v and %d requests", pause, st, err, took, len(h.times()))
			}
		})
	}
}
