package simserver

import (
	"fmt"
	"net/http"
	"time"

	"github.com/vtclient/vtclient/internal/unit"
)

// An Option sets something about a server when it is made.
type Option func(*config)

type config struct {
	seed        uint64
	durations   Durations
	failureRate float64
	faults      Faults
	autoCreate  bool
	epoch       time.Time
	defaultJob  Job
	retryAfter  time.Duration
	token       string
	onExchange  func(Exchange)
	onJob       func(Job)
	onDelivery  func(Delivery)
	webhook     Webhook
	lateResult  time.Duration
	bulkPage    int
	downloads   Downloads
	jobLimit    int
	limitPause  time.Duration
	credit      int // jobs that can be paid for; negative: any number
	submitTime  time.Duration
}

func newConfig(opts []Option) config {
	c := config{durations: Fixed(10 * time.Second), credit: -1}
	for _, o := range opts {
		o(&c)
	}
	if !isRate(c.failureRate) {
		panic(fmt.Sprintf("simserver: WithFailureRate(%v): not between 0 and 1", c.failureRate))
	}
	for _, err := range []error{
		c.faults.Validate(), c.webhook.Validate(),
		unitless("WithRetryAfter", c.retryAfter), unitless("WithLateResult", c.lateResult),
	} {
		if err != nil {
			panic(err.Error())
		}
	}
	if err := c.downloads.validate(); err != nil {
		panic(err.Error())
	}
	return c
}

// leastDuration is the shortest duration above zero that makes sense in a simulation.
const leastDuration = time.Microsecond

// unitless returns an error if d can only be a number that lacks its unit.
func unitless(where string, d time.Duration) error {
	if want := unit.Missing(d, leastDuration); want != "" {
		return fmt.Errorf("simserver: %s: %v, want %s", where, d, want)
	}
	return nil
}

// isRate is false for NaN, too.
func isRate(p float64) bool { return p >= 0 && p <= 1 }

// WithSeed sets the seed of all random numbers of the server. The default is 0, a seed like any
// other.
func WithSeed(seed uint64) Option { return func(c *config) { c.seed = seed } }

// WithDurations sets how long jobs take that are created without a duration of their
// own. The default, also for nil, is Fixed(10 * time.Second).
func WithDurations(d Durations) Option {
	return func(c *config) {
		if d != nil {
			c.durations = d
		}
	}
}

// WithFailureRate sets the share of jobs, 0 to 1, that end in failure. It counts for
// every job but those created with [Job.Fail], which fail anyway, or [Job.Succeed]. The
// default is 0.
func WithFailureRate(p float64) Option { return func(c *config) { c.failureRate = p } }

// WithFaults sets the faults that requests meet from the start.
// [Server.SetFaults] changes them later. The default is none.
func WithFaults(f Faults) Option { return func(c *config) { c.faults = f.clone() } }

// WithAutoCreate makes the server create a job when a request first names an id that
// does not exist yet. Without it the answer is 404.
func WithAutoCreate() Option { return func(c *config) { c.autoCreate = true } }

// WithEpoch sets the time at which the default job and those of [WithAutoCreate]
// started; the zero time means when the server is made, for the default job, and when
// it is first asked for, for the others. Two servers with the same seed and epoch
// give any id the same fate, so one can take over where the other was killed.
func WithEpoch(t time.Time) Option { return func(c *config) { c.epoch = t } }

// WithDefaultJob sets what the default job is: the one with the empty id, at GET
// /status, that exists from the start. Its ID is ignored. The default is Job{}.
func WithDefaultJob(j Job) Option { return func(c *config) { c.defaultJob = j } }

// WithRetryAfter makes answers about pending jobs carry a Retry-After header, in
// seconds rounded up. The default, 0, sends none. [Faults.RetryAfter] is the one for
// error answers.
func WithRetryAfter(d time.Duration) Option { return func(c *config) { c.retryAfter = d } }

// WithLateResult makes the answers of HeyGen's API about a completed job lack its
// video_url until d after its end, as the real ones may. The default is 0.
func WithLateResult(d time.Duration) Option { return func(c *config) { c.lateResult = d } }

// WithBulkPage makes a bulk answer of HeyGen's API hold n jobs at most; the rest is
// on further pages. The default, 0, is no bound.
func WithBulkPage(n int) Option { return func(c *config) { c.bulkPage = n } }

// WithJobLimit makes the server refuse submissions by 429, with a Retry-After of the pause
// (0: none), that would make more than n jobs of those submitted over HTTP be under way at a
// time: HeyGen's smallest plan has 10. The default, 0, is no limit.
func WithJobLimit(n int, pause time.Duration) Option {
	return func(c *config) { c.jobLimit, c.limitPause = n, pause }
}

// WithCredit makes the server refuse submissions by 402, insufficient_credit, once n jobs have
// been submitted over HTTP. By default there is no limit.
func WithCredit(n int) Option { return func(c *config) { c.credit = max(0, n) } }

// WithSubmitTime makes a submission over HTTP take d. It is carried out even if its client
// leaves meanwhile, and another one with the same Idempotency-Key is answered with 409 in
// that time. The default is 0.
func WithSubmitTime(d time.Duration) Option { return func(c *config) { c.submitTime = d } }

// WithToken makes the server answer 401 to requests that do not carry the token, as
// "Authorization: Bearer token" or as "X-Api-Key: token". The default, "", asks for
// none.
func WithToken(token string) Option { return func(c *config) { c.token = token } }

// WithOnExchange sets a function that is called after each request, for logs and
// timelines. Calls may come from several goroutines at once. It must not call
// [Server.Close].
func WithOnExchange(f func(Exchange)) Option { return func(c *config) { c.onExchange = f } }

// WithOnJob sets a function that is called after each change of a job, with what
// [Server.Job] returns: when it is created or replaced, and when [Server.Complete] or
// [Server.Fail] ends it. The end of a job in its own time is no change. The default job
// is left out until it is ended. Calls may come from several goroutines at once.
func WithOnJob(f func(Job)) Option { return func(c *config) { c.onJob = f } }

// WithOnDelivery sets a function that is called after each delivery to the webhook, and
// for each one that is lost on purpose. Calls may come from several goroutines at once.
// It must not call [Server.Close].
func WithOnDelivery(f func(Delivery)) Option { return func(c *config) { c.onDelivery = f } }

// A Delivery is what became of one delivery to the webhook.
type Delivery struct {
	Time  time.Time // when it was sent or lost
	JobID string
	Lost  bool  // by [Webhook.Loss]: it was never sent
	Err   error // no 2xx came back; nil for one that was lost
}

// An Exchange is one request as the server saw it.
type Exchange struct {
	Time   time.Time     // when the request arrived
	Took   time.Duration // until the answer was handed to net/http, or given up
	Method string
	Path   string      // as sent, percent-encoded
	Header http.Header // of the request; not to be changed
	JobIDs []string    // the jobs it asked about; nil when it was no status request
	Code   int         // the status code sent; 0 when there was no answer
	Fault  Fault       // what was done to it; empty when nothing was
}
