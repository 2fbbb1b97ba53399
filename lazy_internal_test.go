package vtclient

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What may happen to a context with a deadline in 10 s.
const (
	passes = "the deadline passes"
	leaves = "the parent is cancelled"
	ends   = "it ends"
)

// follow returns what the methods of a context return, from the start if asked is 0, and after
// each step from the asked-th on. Each call has a bubble of its own, so that all see the same
// times.
func follow(t *testing.T, make func(context.Context, time.Time) (context.Context, func()), limit time.Duration, asked int, steps ...string) (reported []string) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		base := context.WithValue(t.Context(), key{}, "value")
		if limit > 0 {
			var cancelBase context.CancelFunc
			base, cancelBase = context.WithTimeout(base, limit)
			defer cancelBase()
		}
		parent, cancel := context.WithCancelCause(base)
		defer cancel(nil)
		ctx, end := make(parent, time.Now().Add(10*time.Second))
		defer end()
		for i, step := range slices.Insert(steps, 0, "") {
			switch step {
			case passes:
				time.Sleep(20 * time.Second)
			case leaves:
				cancel(errors.New("the caller's reason"))
			case ends:
				end()
			}
			synctest.Wait()
			if i < asked {
				continue
			}
			done := false
			select {
			case <-ctx.Done():
				done = true
			default:
			}
			deadline, ok := ctx.Deadline()
			reported = append(reported, fmt.Sprint(done, ctx.Err(), context.Cause(ctx), deadline.UTC(), ok, ctx.Value(key{}), ctx.Value("no such")))
		}
	})
	return reported
}

// The methods of a lazyContext return at any time what those of a context.WithDeadline return,
// with two exceptions. One that is first asked after it ended has been cancelled. One that is
// first asked after both its parent's end and its deadline has the parent's end.
func TestALazyContextBehavesLikeOneWithADeadline(t *testing.T) {
	eager := func(parent context.Context, deadline time.Time) (context.Context, func()) {
		ctx, cancel := context.WithDeadline(parent, deadline)
		return ctx, cancel
	}
	lazy := func(parent context.Context, deadline time.Time) (context.Context, func()) {
		l := &lazyContext{parent: parent, deadline: deadline}
		return l, l.end
	}
	for _, limit := range []time.Duration{0, time.Second, time.Minute} { // of the parent; 0: none
		for _, steps := range [][]string{
			{passes}, {leaves}, {ends}, {passes, leaves}, {passes, ends}, {leaves, passes}, {leaves, ends}, {ends, passes}, {ends, leaves},
		} {
			for asked := range len(steps) + 1 {
				got := follow(t, lazy, limit, asked, steps...)
				as := slices.Clone(steps)
				if slices.Equal(as, []string{passes, leaves}) && asked == 2 && limit != time.Second {
					slices.Reverse(as)
				}
				want := follow(t, eager, limit, asked, as...)
				if slices.Contains(steps[:asked], ends) {
					for i := range want {
						_, rest, _ := strings.Cut(want[i], " 2000-")
						want[i] = "true context canceled context canceled 2000-" + rest
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%q, asked from %d on, parent's limit %v:\n%q, one with a deadline:\n%q", steps, asked, limit, got, want)
				}
			}
		}
	}
}

// Contexts that are made of one end with it, and need no goroutine to.
func TestAChildOfALazyContext(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := &lazyContext{parent: parent, deadline: time.Now().Add(time.Hour)}
	before := runtime.NumGoroutine()
	child, cancelChild := context.WithCancel(l)
	defer cancelChild()
	if n := runtime.NumGoroutine(); n > before || child.Err() != nil {
		t.Errorf("%d goroutines, %d before; the child: %v", n, before, child.Err())
	}
	if l.end(); child.Err() != context.Canceled {
		t.Errorf("the child of a context that has ended: %v", child.Err())
	}
}

// A deadline that is postponed moves for all uses from then on, also where the context
// was used before; what was made of it before keeps the earlier one.
func TestPostponingALazyContext(t *testing.T) {
	for _, used := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			l := &lazyContext{parent: t.Context(), deadline: start.Add(10 * time.Second)}
			defer l.end()
			var child context.Context
			if used {
				var cancel context.CancelFunc
				child, cancel = context.WithCancel(l)
				defer cancel()
			}
			time.Sleep(4 * time.Second)
			l.postpone(5 * time.Second)
			if d, ok := l.Deadline(); !ok || !d.Equal(start.Add(15*time.Second)) {
				t.Errorf("the deadline is %v after the start", d.Sub(start))
			}
			if used {
				<-child.Done()
				if at := time.Since(start); at != 10*time.Second || l.Err() != nil {
					t.Errorf("the child ended after %v; the context: %v", at, l.Err())
				}
			}
			<-l.Done()
			if at := time.Since(start); at != 15*time.Second || l.Err() != context.DeadlineExceeded {
				t.Errorf("ended after %v: %v", at, l.Err())
			}
		})
	}
	// The end of the context is that of all that was made of it.
	l := &lazyContext{parent: t.Context(), deadline: time.Now().Add(time.Hour)}
	child, cancel := context.WithCancel(l)
	defer cancel()
	l.postpone(time.Hour)
	if l.end(); child.Err() != context.Canceled || l.Err() != context.Canceled {
		t.Errorf("after the end: %v, the child: %v", l.Err(), child.Err())
	}
}
