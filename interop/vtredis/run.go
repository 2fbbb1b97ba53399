package vtredis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vtclient/vtclient"
)

// Run waits for jobs of the queue with c until ctx is done, and calls handle with each
// end, as [vtclient.Client.WaitAll] yields it: a nil error for a completed job only.
//
// A nil error of handle acknowledges the job and removes it from the queue in one step.
// After any other error the job is delivered again once the idle time has passed, at
// any replica; after MaxDeliveries it becomes a dead letter with that error. A death
// of the replica within handle counts as a delivery, one before it does not. A panic
// in handle is not recovered. handle's context ends with ctx and carries the number of
// the delivery, see [Delivery]. The error for a job may be about the backend and not
// about the job: an outage longer than the client's tolerance, a wrong key. Return it
// to have the job waited for again.
//
// All jobs are waited for by one WaitAll, with their start, estimate and deadline. One
// that another replica waited for before begins anew with what was given to Add.
//
// While Redis is away the waits go on. Ends are kept, their bodies up to about 64 MiB,
// and handed over when it is back. Run goes on through every error of Redis but two: it
// returns an error if Redis cannot be reached when it begins, and one that matches
// ErrEmptied. Else it returns the cause of ctx's end, some seconds after the last call
// of handle. The jobs that it then leaves are free for other replicas at once.
func (q *Queue) Run(ctx context.Context, c *vtclient.Client, handle func(context.Context, vtclient.Status, error) error) error {
	if c == nil || handle == nil {
		return errors.New("vtredis: Queue.Run: c or handle is nil")
	}
	born, err := q.open(ctx).Text()
	if err != nil {
		return fmt.Errorf("vtredis: queue %q: Run: %w", q.name, err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := &run{
		q: q, c: c, handle: handle, born: born, consumer: consumerName(), stop: stop,
		held: map[string]*held{},
		jobs: make(chan vtclient.Job), room: make(chan struct{}, 1), work: make(chan struct{}, 1),
		space: make(chan struct{}, 1), renew: make(chan struct{}, 1),
	}
	hinted, err := Subscribe(ctx, q.rdb, q.hints(r.consumer), c.Hint)
	if err != nil {
		return fmt.Errorf("vtredis: queue %q: Run: %w", q.name, err)
	}
	keeping, rest := context.WithCancel(context.WithoutCancel(ctx)) // claims are kept while the last ends are handled
	var kept, all sync.WaitGroup
	kept.Go(func() { r.keep(keeping) })
	all.Go(func() { r.read(ctx) })
	all.Go(func() { r.wait(ctx) })
	all.Go(func() { r.learn(ctx) })
	for range q.o.Handlers {
		all.Go(func() { r.handOver(ctx) })
	}
	all.Wait()
	rest()
	kept.Wait()
	<-hinted
	r.release()
	return context.Cause(ctx)
}

type deliveryKey struct{}

// Delivery returns the number of the delivery, from 1, given the context of a call of
// handle by [Queue.Run], and 0 for any other context.
func Delivery(ctx context.Context) int {
	n, _ := ctx.Value(deliveryKey{}).(int)
	return n
}

// maxKept bounds the bodies of ends that wait to be handled, in bytes.
const maxKept = 64 << 20

// A run is one call of Run: a consumer of the group.
type run struct {
	q        *Queue
	c        *vtclient.Client
	handle   func(context.Context, vtclient.Status, error) error
	born     string // of the queue
	consumer string
	stop     context.CancelCauseFunc

	jobs  chan vtclient.Job // from read to the WaitAll
	room  chan struct{}     // holds a token if held has become smaller
	work  chan struct{}     // likewise if there are ends
	space chan struct{}     // likewise if kept has become smaller
	renew chan struct{}     // likewise if jobs are waited for that are no longer held

	feeding sync.Mutex // held by the sequence that receives from jobs

	mu   sync.Mutex
	held map[string]*held // by job id
	ends []*held          // to be handled
	kept int              // bytes of bodies in ends
}

// A held is a job that this consumer has claimed.
type held struct {
	job     vtclient.Job
	entry   string
	claimed time.Time // not before Redis noted the claim
	over    bool      // status and err are final
	busy    bool      // being handled
	status  vtclient.Status
	err     error
}

func consumerName() string {
	host, _ := os.Hostname()
	return host + "-" + rand.Text()[:8]
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// wait runs the WaitAll. A WaitAll cannot be asked to give one of its jobs up. So when claims
// were lost, another one takes its place: it joins the polls of all jobs that are
// still held, which costs no request, before the first one leaves.
func (r *run) wait(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	leave := func() {}
	for ctx.Err() == nil {
		waiting, cancel := context.WithCancel(ctx)
		joined, full := make(chan struct{}), make(chan struct{})
		running.Go(func() {
			for st, err := range r.c.WaitAll(waiting, r.sequence(waiting, joined, full)) {
				if waiting.Err() != nil {
					return
				}
				r.end(waiting, st, err)
			}
		})
		select {
		case <-joined:
		case <-ctx.Done():
		}
		leave()
		leave = cancel
		select {
		case <-r.renew:
		case <-ctx.Done():
		}
		close(full)
	}
	leave()
}

// sequence yields the jobs that are held, closes joined, and goes on with those that come
// until full is closed.
func (r *run) sequence(ctx context.Context, joined, full chan struct{}) iter.Seq[vtclient.Job] {
	return func(yield func(vtclient.Job) bool) {
		r.feeding.Lock() // no job goes to the sequence before once the jobs held are listed
		defer r.feeding.Unlock()
		for _, job := range r.unfinished() {
			if !yield(job) {
				return
			}
		}
		close(joined)
		for {
			select {
			case job := <-r.jobs:
				if !yield(job) {
					return
				}
			case <-full:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

func (r *run) unfinished() (jobs []vtclient.Job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.held {
		if !h.over {
			jobs = append(jobs, h.job)
		}
	}
	return jobs
}

// end notes the end of a job. It holds the WaitAll back where too much is kept already.
func (r *run) end(ctx context.Context, st vtclient.Status, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.kept > maxKept && ctx.Err() == nil {
		r.mu.Unlock()
		select {
		case <-r.space:
		case <-ctx.Done():
		}
		r.mu.Lock()
	}
	signal(r.space) // for the WaitAll that takes this one's place
	h := r.held[st.JobID]
	if h == nil || h.over {
		return // two WaitAll have waited for it, or it was removed
	}
	h.over, h.status, h.err = true, st, err
	r.ends = append(r.ends, h)
	r.kept += len(st.Body)
	signal(r.work)
}

// handOver handles ends until ctx is done.
func (r *run) handOver(ctx context.Context) {
	for {
		h := r.next()
		if h == nil {
			select {
			case <-r.work:
				continue
			case <-ctx.Done():
				return
			}
		}
		if ctx.Err() != nil || !r.deliver(ctx, h) {
			return
		}
		r.drop(h)
	}
}

// next takes out an end to be handled; nil: there is none.
func (r *run) next() *held {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ends) == 0 {
		r.ends = nil
		return nil
	}
	h := r.ends[0]
	r.ends[0] = nil
	if r.ends = r.ends[1:]; len(r.ends) > 0 {
		signal(r.work) // for the other handlers
	}
	h.busy = true
	r.kept -= len(h.status.Body)
	signal(r.space)
	return h
}

// drop ends the claim on a job.
func (r *run) drop(h *held) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held[h.job.ID] == h {
		delete(r.held, h.job.ID)
		signal(r.room)
	}
}

// deliver hands one end over. It reports whether the job is dealt with here; else it is
// free for other replicas.
func (r *run) deliver(ctx context.Context, h *held) bool {
	var n int
	err := r.insist(ctx, "delivery", func(ctx context.Context) (err error) {
		n, err = beginScript.Run(ctx, r.q.rdb, r.q.keys, group, r.consumer, h.entry).Int()
		return err
	})
	switch {
	case err != nil:
		return false
	case n == 0:
		return true // removed, or another replica has it
	case n > r.q.o.MaxDeliveries:
		return r.fail(ctx, h, n, "") == nil
	}
	err = r.handle(context.WithValue(ctx, deliveryKey{}, n), h.status, h.err)
	if err != nil && ctx.Err() != nil {
		return false // most likely the reason for the error
	}
	if err != nil {
		r.q.o.OnError(fmt.Errorf("vtredis: queue %q: delivery %d of job %q: %w", r.q.name, n, h.job.ID, err))
		return r.fail(ctx, h, n, err.Error()) == nil
	}
	// It is handled: the acknowledgement is worth a last effort when ctx is done.
	return r.insist(ctx, "acknowledgement", func(ctx context.Context) error {
		return r.q.eval(ctx, finishScript, group, h.job.ID, h.entry, n)
	}) == nil
}

// maxErrorText bounds what is kept of an error of handle.
const maxErrorText = 4 << 10

func (r *run) fail(ctx context.Context, h *held, n int, text string) error {
	if text = strings.ToValidUTF8(text[:min(len(text), maxErrorText)], ""); text == "" && n <= r.q.o.MaxDeliveries {
		text = "an error without a text"
	}
	return r.insist(ctx, "failed delivery", func(ctx context.Context) error {
		return r.q.eval(ctx, failScript, group, h.job.ID, h.entry, r.consumer, n, r.q.o.MaxDeliveries, text)
	})
}
