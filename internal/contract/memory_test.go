package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// partOf returns a part of a text of a mebibyte, which it keeps alive.
func partOf(text string) string {
	large := strings.Repeat("x", 1<<20) + text
	return large[1<<20:]
}

// live returns the bytes of the heap that something refers to.
func live() int64 {
	runtime.GC()
	runtime.GC() // what a pool holds goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// An ownError has a text that it composes when it is asked for.
type ownError struct{}

func (ownError) Error() string { return strings.Repeat("no ", 1<<18) }

// Property 71: bounds are on what is kept alive. A message, a state word, an id, a key, a body
// or the text of an error that is a part of a mebibyte keeps none of the rest of it: not in
// the cache, not for a job that is waited for, not in the error that a caller keeps, and not
// in what the client itself remembers of a fault.
func TestWhatIsKeptIsNoPartOfALargerText(t *testing.T) {
	const jobs, bound = 24, 24 << 10 // bytes a job

	decode := func(make func() vtclient.Status) vtclient.Option {
		return vtclient.WithEndpoint(vtclient.Endpoint{Path: "/{id}", Decode: func(vtclient.Answer) (vtclient.Status, error) { return make(), nil }})
	}
	fetch := func(make func() (vtclient.Status, error)) vtclient.Option {
		return vtclient.WithFetch(func(context.Context, string) (vtclient.Status, error) { return make() })
	}
	plain := vtclient.WithMaxInFlight(1) // in turn, so that what is in flight does not count
	pending := func(message string) vtclient.Status {
		return vtclient.Status{State: vtclient.StatePending, Message: message}
	}
	failed := func(message string) vtclient.Status {
		return vtclient.Status{State: vtclient.StateFailed, Message: message, Body: []byte(`{}`)}
	}
	short := func(i int) string { return fmt.Sprint("job-", i) }
	part := func(i int) string { return partOf(fmt.Sprint("job-", i)) }
	shared := vtclient.WithEndpoint(vtclient.Endpoint{Bulk: vtclient.Bulk{Path: "/all?ids={ids}", Decode: func(a vtclient.Answer) (all []vtclient.Status, _ string, err error) {
		for i := range jobs {
			body := append(make([]byte, 1<<20), `{}`...)
			st := vtclient.Status{JobID: part(i), State: vtclient.State(partOf("pending")), Message: partOf("at work")}
			if i%2 == 0 {
				st.State, st.Body = vtclient.State(partOf("completed")), json.RawMessage(body[1<<20:])
			}
			all = append(all, st)
		}
		return all, "", nil
	}}})

	for _, tt := range []struct {
		rule  string
		with  vtclient.Option
		body  string // of the answers; with a code
		code  int
		id    func(i int) string
		waits bool // else a Status each
	}{
		{"a message, in the cache", decode(func() vtclient.Status { return failed(partOf("it broke")) }), "", 200, short, false},
		{"a message of a pending job, in the cache", decode(func() vtclient.Status { return pending(partOf("at work")) }), "", 200, short, false},
		{"a state word, in the cache", decode(func() vtclient.Status { return vtclient.Status{State: vtclient.State(partOf("completed"))} }), "", 200, short, false},
		{"an unknown state word, in an error", decode(func() vtclient.Status { return vtclient.Status{State: vtclient.State(partOf("odd"))} }), "", 200, short, false},
		{"an id, in the cache", plain, `{"result":"completed"}`, 200, part, false},
		{"an id in a query, in the cache", vtclient.WithEndpoint(vtclient.Endpoint{Path: "/?id={id}"}), `{"result":"completed"}`, 200, part, false},
		{"an id, in an error", plain, `nothing`, 503, part, false},
		{"a message, of a job that is waited for", decode(func() vtclient.Status { return pending(partOf("at work")) }), "", 200, short, true},
		{"an id, of a job that is waited for", plain, `{"result":"pending"}`, 200, part, true},
		{"an id, of a job that meets faults", plain, `nothing`, 503, part, true},
		{"what a function returns, in the cache", fetch(func() (vtclient.Status, error) {
			body := append(make([]byte, 1<<20), `{"a":1}`...)
			return vtclient.Status{State: vtclient.State(partOf("completed")), Message: partOf("done"), Body: json.RawMessage(body[1<<20:])}, nil
		}), "", 0, part, false},
		{"what a function returns, of a job that is waited for", fetch(func() (vtclient.Status, error) {
			return vtclient.Status{State: vtclient.State(partOf("pending")), Message: partOf("at work"), Body: make([]byte, 1<<20)}, nil
		}), "", 0, part, true},
		{"the text of an error of a function", fetch(func() (vtclient.Status, error) { return vtclient.Status{}, ownError{} }), "", 0, short, true},
		{"the same, in the error of a Status", fetch(func() (vtclient.Status, error) { return vtclient.Status{}, ownError{} }), "", 0, short, false},
		{"an unknown state word of a function", fetch(func() (vtclient.Status, error) {
			return vtclient.Status{State: vtclient.State(partOf("odd"))}, nil
		}), "", 0, short, false},
		{"ids, states, messages and bodies of a shared answer", shared, ``, 200, short, true},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := []vtclient.Option{tt.with, vtclient.WithCacheTTL(time.Hour, time.Hour), vtclient.WithBreaker(nil),
					vtclient.WithPolling(vtclient.Constant(time.Hour)), vtclient.WithRetry(vtclient.Exponential{Base: time.Minute, Limit: 1})}
				if tt.code > 0 {
					opts = append(opts, vtclient.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
						return respond(r, tt.code, tt.body), nil
					})}))
				}
				base := "http://h"
				c, err := vtclient.New(base, opts...)
				if err != nil {
					t.Fatal(err)
				}
				before := live()
				ctx, leave := context.WithCancel(t.Context())
				errs := make([]error, jobs)
				var wg sync.WaitGroup
				for i := range jobs {
					if !tt.waits {
						_, errs[i] = c.Status(ctx, tt.id(i))
						continue
					}
					job := one(tt.id(i)) // a Wait would have the id on its stack
					wg.Go(func() {
						for range c.WaitAll(ctx, job) {
						}
					})
				}
				synctest.Wait()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				kept := (live() - before) / jobs
				if kept > bound {
					t.Errorf("%d bytes a job are kept, want at most %d", kept, bound)
				}
				leave()
				wg.Wait()
				runtime.KeepAlive(errs)
				runtime.KeepAlive(c)
			})
		})
	}
}

// one yields a job, and does not hold its id afterwards.
func one(id string) func(func(vtclient.Job) bool) {
	return func(yield func(vtclient.Job) bool) {
		job := vtclient.Job{ID: id}
		id = ""
		yield(job)
	}
}

// The client's own memory of a 429 keeps nothing of the id that met it, and a MemoryCache
// keeps nothing of what a key is a part of.
func TestWhatTheClientAndTheCacheRemember(t *testing.T) {
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 429, "", "Retry-After: 3600"), nil },
		vtclient.WithCache(nil), vtclient.WithBreaker(nil))
	cache := vtclient.NewMemoryCache[int](100)
	before := live()
	if _, err := c.Status(t.Context(), partOf("j")); !errors.Is(err, vtclient.ErrRetryAfter) {
		t.Fatal(err)
	}
	if kept := live() - before; kept > 64<<10 {
		t.Errorf("%d bytes are kept of a 429", kept)
	}
	for i := range 20 {
		for range 2 { // a new key, and one that is there
			cache.Set(t.Context(), partOf(fmt.Sprint(i)), i, time.Hour)
		}
	}
	if kept := live() - before; kept > 128<<10 {
		t.Errorf("%d bytes are kept for 20 keys", kept)
	}
	runtime.KeepAlive(c)
	runtime.KeepAlive(cache)
}

// A full cache is below its bound with the largest answers that it keeps, however their sizes
// fall: the longest ids, and messages beside the bodies.
func TestAFullCacheIsBelowItsBound(t *testing.T) {
	const entries = 1024
	for name, split := range map[string]int{"bodies alone": 0, "messages that take what is left": 4095, "halves": 16<<10 - 64} {
		answer, err := json.Marshal(map[string]string{"result": "error", "message": strings.Repeat("m", split)})
		if err != nil {
			t.Fatal(err)
		}
		// The body has the message in it: together they are as long as the cache allows.
		answer = append(answer, strings.Repeat(" ", max(0, 32<<10-split-len(answer)))...)
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, string(answer)), nil })
		before := live()
		for i := range entries {
			if _, err := c.Status(t.Context(), fmt.Sprintf("%02048d", i)); err != nil {
				t.Fatal(err)
			}
		}
		kept := live() - before
		if kept > 40<<20 || split == 0 && kept < 32<<20 {
			t.Errorf("%s: %d KiB are kept, want at most 40 MiB", name, kept>>10)
		}
		runtime.KeepAlive(c)
	}
}
