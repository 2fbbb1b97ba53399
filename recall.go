package vtclient

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// cachedAnswer bounds in bytes an answer that a MemoryCache keeps: it counts
	// entries, and a full one of the largest answers would take a gibibyte.
	cachedAnswer = 32 << 10
	// cacheTimeout bounds one call of a cache: what takes longer than a
	// request would is no cache.
	cacheTimeout = 250 * time.Millisecond
	// cacheRest is how long a cache that hung is left alone, so that a dead
	// one costs each call nothing and all of them together 5 %.
	cacheRest = 5 * time.Second
)

// A statusCache is the client's use of its Cache: what is kept and for how long, and
// what is read back. A failure of the Cache counts as a miss and is shown to the traces.
type statusCache struct {
	cache                   Cache[Status] // nil: none
	pendingTTL, terminalTTL time.Duration
	clock                   *clock
	tracer                  tracer
	restUntil               atomic.Int64 // no call before, after one that hung
}

// recall returns the job's status, or nil; a pending one, or one that lacks its result,
// only if asked for. It may lie in the cache, so it must not be written to, and a copy
// of it needs Cached set.
func (s *statusCache) recall(ctx context.Context, jobID string, pending bool) *Status {
	if s.cache == nil {
		return nil
	}
	// A MemoryCache neither hangs nor fails: it is read in place, without a timeout, which
	// is the whole of what a cached Status costs.
	var st *Status
	if m, ok := s.cache.(*MemoryCache[Status]); ok {
		st = m.get(jobID)
	} else {
		st = s.read(ctx, jobID)
	}
	if st == nil {
		return nil
	}
	return s.found(ctx, jobID, st, pending)
}

// found returns an entry of the cache if it is what is asked for, or nil. What it has on the
// stack, a Wait that is not in the cache has not: see inbox.await.
func (s *statusCache) found(ctx context.Context, jobID string, st *Status, pending bool) *Status {
	if st.JobID != jobID || !st.known() {
		s.report(ctx, jobID, fmt.Errorf("the entry is not this job's status: job %s, state %q", quoteID(st.JobID), oneLine(string(st.State), 64)))
		return nil
	}
	if !pending && !st.settled() {
		return nil
	}
	if p := st.share(); p != st.Progress { // another program may have stored it
		own := *st
		own.Progress, st = p, &own
	}
	if len(s.tracer) > 0 {
		s.tracer.emit(ctx, traceCached, TraceInfo{JobID: jobID, State: st.State})
	}
	return st
}

// read returns an entry of a foreign cache as it is, or nil.
func (s *statusCache) read(ctx context.Context, jobID string) *Status {
	var found *Status
	s.call(ctx, jobID, func(ctx context.Context) error {
		st, hit, err := s.cache.Get(ctx, jobID)
		if err == nil && hit {
			found = &st
		}
		return err
	})
	return found
}

// remember stores an answer.
func (s *statusCache) remember(ctx context.Context, st *Status) {
	ttl := s.pendingTTL
	if st.settled() {
		ttl = s.terminalTTL
	}
	if s.cache == nil || ttl <= 0 {
		return
	}
	if m, ok := s.cache.(*MemoryCache[Status]); ok {
		var spare func(Status) bool
		switch {
		case len(st.Body)+len(st.Message) > cachedAnswer:
			ttl = 0 // forgets the entry, which is out of date
		case !st.settled():
			// An answer that was long on the way does not undo the end that
			// another request has seen since. (In a foreign cache it does, until
			// its short time is over: to look first would cost a call for each poll.)
			spare = func(old Status) bool { return old.settled() }
		}
		m.set(st.JobID, st, ttl, spare)
		return
	}
	s.call(ctx, st.JobID, func(ctx context.Context) error {
		return s.cache.Set(ctx, st.JobID, *st, ttl)
	})
}

// forget drops what is kept of a job.
func (s *statusCache) forget(ctx context.Context, jobID string) {
	if s.cache != nil {
		s.call(ctx, jobID, func(ctx context.Context) error {
			return s.cache.Set(ctx, jobID, Status{JobID: jobID}, 0)
		})
	}
}

// call calls a foreign cache, within a bound of time and not soon after it hung.
func (s *statusCache) call(ctx context.Context, jobID string, f func(context.Context) error) {
	if s.clock.now() < s.restUntil.Load() {
		return
	}
	bound := cacheTimeout
	if deadline, ok := ctx.Deadline(); ok {
		bound = min(bound, time.Until(deadline)/4) // leave time for the request itself
	}
	bounded, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	err := f(bounded)
	if err == nil || ctx.Err() != nil {
		return
	}
	if bounded.Err() != nil && bound == cacheTimeout {
		s.restUntil.Store(later(s.clock.now(), cacheRest))
	}
	s.report(ctx, jobID, err)
}

func (s *statusCache) report(ctx context.Context, jobID string, err error) {
	s.tracer.emit(ctx, traceCached, TraceInfo{JobID: jobID, Err: fmt.Errorf("vtclient: job %s: cache: %w", quoteID(jobID), brief(err))})
}
