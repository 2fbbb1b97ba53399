package simserver

import (
	"fmt"
	"net/http"
	"regexp"
	"sync"
	"time"
)

// Submissions are the requests that create jobs, of both APIs: by their idempotency keys,
// and within the limits.
type submissions struct {
	cfg   *config
	jobs  *jobs
	tally *tally

	mu      sync.Mutex
	byKey   map[string]*creation
	charged int // jobs created
	running int // jobs of submissions that are being carried out
}

// A creation is a submission with an idempotency key.
type creation struct {
	at     time.Time // when it was carried out; zero: it is under way
	answer answer
}

const keyLife = 24 * time.Hour

var idempotencyKey = regexp.MustCompile(`^[A-Za-z0-9_\-:.]{1,255}$`)

// create carries out a submission of n jobs, or answers for it. It takes the time of
// [WithSubmitTime] and does not end with its client.
func (s *submissions) create(x *exchange, n int, run func() answer) answer {
	fault := x.api.fault
	keys := x.r.Header.Values("Idempotency-Key")
	key := ""
	if len(keys) > 0 {
		if key = keys[0]; len(keys) > 1 || !idempotencyKey.MatchString(key) {
			return fault(http.StatusBadRequest, "Idempotency-Key: not 1 to 255 characters from A-Z, a-z, 0-9, _ - : .")
		}
		key = x.r.URL.Path + " " + key // the scope of a key is its path
	}
	if ans, done := s.begin(key, n, fault); done {
		return ans
	}
	done := make(chan answer, 1)
	carryOut := func() {
		ans := run()
		s.finish(key, n, ans)
		done <- ans
	}
	if s.cfg.submitTime <= 0 {
		carryOut()
		return <-done
	}
	time.AfterFunc(s.cfg.submitTime, func() {
		select {
		case <-x.s.done:
		default:
			carryOut()
		}
	})
	if !x.sleep(s.cfg.submitTime) {
		x.abort(false)
	}
	return <-done
}

// begin admits a submission, or answers it.
func (s *submissions) begin(key string, n int, fault func(int, string) answer) (ans answer, done bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if earlier := s.byKey[key]; key != "" && earlier != nil {
		switch {
		case earlier.at.IsZero():
			return refusal(fault(http.StatusConflict, "the original request with this Idempotency-Key is still in progress")), true
		case now.Sub(earlier.at) < keyLife:
			s.tally.count(func(c *counters) { c.replayed++ })
			return earlier.answer, true
		}
	}
	if limit := s.cfg.jobLimit; limit > 0 {
		if under := s.jobs.unfinished(now) + s.running; under+n > limit {
			ans := refusal(fault(http.StatusTooManyRequests, fmt.Sprintf("%d jobs are under way, and %d more would be above the limit of %d", under, n, limit)))
			if s.cfg.limitPause > 0 {
				ans.header = append(ans.header, [2]string{"Retry-After", seconds(s.cfg.limitPause)})
			}
			return ans, true
		}
	}
	if s.cfg.credit >= 0 && s.charged+s.running+n > s.cfg.credit {
		return refusal(fault(http.StatusPaymentRequired, fmt.Sprintf("the credit is for %d jobs, and %d have been submitted", s.cfg.credit, s.charged))), true
	}
	s.running += n
	if key != "" {
		s.byKey[key] = &creation{}
	}
	return answer{}, false
}

func refusal(a answer) answer {
	a.outcome = refused
	return a
}

// finish keeps the answer to a submission for its key, if that created jobs.
func (s *submissions) finish(key string, n int, ans answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running -= n
	created := ans.outcome == accepted
	if created {
		s.charged += n
	}
	switch {
	case key == "":
	case created:
		s.byKey[key] = &creation{at: time.Now(), answer: ans}
	default:
		delete(s.byKey, key)
	}
}
