package simserver

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// An announcer announces the ends of jobs. A job that is waited for costs a timer.
type announcer struct {
	dice
	tally  *tally
	files  *files
	report func(Delivery) // may be nil
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	idle     sync.Cond // signalled when sending falls to 0
	hook     Webhook
	inMemory bool                     // URLs are reached by the hook alone
	due      map[string]*announcement // by job id
	sending  int                      // deliveries under way
	closed   bool
}

// An announcement is what is still to be delivered about one job.
type announcement struct {
	job   *job
	timer *time.Timer
}

func newAnnouncer(d dice, t *tally, f *files, hook Webhook, report func(Delivery)) *announcer {
	a := &announcer{dice: d, tally: t, files: f, hook: hook, report: report, due: make(map[string]*announcement)}
	a.idle.L = &a.mu
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

func (a *announcer) webhook() Webhook {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hook
}

func (a *announcer) set(h Webhook) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hook = h
}

// reaches reports whether the job has anywhere to be announced.
func (a *announcer) reaches(j *job) bool {
	if j.callbackURL != "" {
		return !a.inMemory || a.hook.Handler != nil || a.hook.Transport != nil
	}
	return !a.hook.off()
}

// watch announces the end of a job, in the place of any of the same id.
func (a *announcer) watch(j *job, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.due[j.ID]; old != nil {
		old.timer.Stop()
		delete(a.due, j.ID)
	}
	a.schedule(j, now)
}

// watchNew announces the end of a job unless it is to be announced already.
func (a *announcer) watchNew(j *job, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.due[j.ID] == nil {
		a.schedule(j, now)
	}
}

func (a *announcer) schedule(j *job, now time.Time) {
	if a.closed || j.ID == "" || j.Duration == Never || !a.reaches(j) {
		return
	}
	n := &announcement{job: j}
	a.due[j.ID] = n
	a.after(n, j.Started.Add(j.Duration).Sub(now), func() { a.ended(n) })
}

// after runs f, unless the announcer closes or the job is replaced before. It is called
// under the lock.
func (a *announcer) after(n *announcement, d time.Duration, f func()) {
	n.timer = time.AfterFunc(max(0, d), func() {
		a.mu.Lock()
		current := a.due[n.job.ID] == n && !a.closed
		if current {
			a.sending++
		}
		a.mu.Unlock()
		if current {
			defer a.sent()
			f()
		}
	})
}

// later is after, for a call without the lock: it reports whether f may still come.
func (a *announcer) later(n *announcement, d time.Duration, f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.due[n.job.ID] == n && !a.closed {
		a.after(n, d, f)
	}
}

func (a *announcer) sent() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sending--; a.sending == 0 {
		a.idle.Broadcast()
	}
}

// forget ends an announcement.
func (a *announcer) forget(n *announcement) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.due[n.job.ID] == n {
		delete(a.due, n.job.ID)
	}
}

// ended decides what becomes of the deliveries of a job that has ended.
func (a *announcer) ended(n *announcement) {
	r := a.rand("webhook", hash(n.job.ID), 0)
	lost, twice, late := r.Float64(), r.Float64(), r.Float64()
	a.mu.Lock()
	h, reached := a.hook, a.reaches(n.job)
	a.mu.Unlock()
	if !reached {
		a.forget(n)
		return
	}
	if lost < h.Loss {
		a.forget(n)
		a.tally.count(func(c *counters) { c.webhooksLost++ })
		a.delivered(Delivery{Time: time.Now(), JobID: n.job.ID, Lost: true})
		return
	}
	times := 1
	if twice < h.Duplicates {
		times = 2
	}
	wait := h.Delay + time.Duration(late*float64(h.Jitter))
	if wait > 0 {
		a.later(n, wait, func() { a.deliver(n, wait, times) })
		return
	}
	a.deliver(n, 0, times)
}

// deliver makes a delivery now, and again as often as it is to come, each after wait.
func (a *announcer) deliver(n *announcement, wait time.Duration, times int) {
	for ; times > 1; times-- {
		a.attempt(n, time.Now())
		if wait > 0 {
			a.later(n, wait, func() { a.deliver(n, wait, times-1) })
			return
		}
	}
	a.try(n, time.Now(), 30*time.Second)
}

// try makes a delivery, and repeats it where that is to be done.
func (a *announcer) try(n *announcement, first time.Time, pause time.Duration) {
	err := a.attempt(n, first)
	if h := a.webhook(); err != nil && time.Since(first)+pause <= h.Retry {
		a.later(n, pause, func() { a.try(n, first, min(2*pause, time.Hour)) })
		return
	}
	a.forget(n)
}

// attempt sends one delivery, with a time.
func (a *announcer) attempt(n *announcement, stamp time.Time) error {
	j := n.job
	kind, body := a.event(j)
	h := a.webhook()
	a.tally.count(func(c *counters) { c.webhooks++ })
	target := h.URL
	header := http.Header{"Content-Type": jsonType}
	if j.callbackURL != "" {
		target = j.callbackURL
	} else {
		mac := hmac.New(sha256.New, []byte(h.Secret))
		mac.Write(body)
		header["Heygen-Signature"] = []string{hex.EncodeToString(mac.Sum(nil))}
		header["Heygen-Timestamp"] = []string{strconv.FormatInt(stamp.Unix(), 10)}
		header["Heygen-Event-Id"] = []string{fmt.Sprintf("evt_%016x", a.rand("event", hash(kind+" "+j.ID), 0).Uint64())}
	}
	ctx, cancel := context.WithTimeout(a.ctx, webhookTimeout)
	defer cancel()
	d := Delivery{Time: time.Now(), JobID: j.ID}
	if d.Err = h.send(ctx, http.MethodPost, target, header, body); d.Err != nil {
		a.tally.count(func(c *counters) { c.webhooksRefused++ })
	}
	a.delivered(d)
	return d.Err
}

// event is the content of a delivery about a job.
func (a *announcer) event(j *job) (kind string, body []byte) {
	data := map[string]any{"video_translate_id": j.ID}
	kind = "video_translate.success"
	if j.Fail {
		kind = "video_translate.fail"
		data["message"] = j.Message
	} else if u, ok := a.files.result(j)["video_url"]; ok {
		data["url"] = u
	}
	if j.callbackID != "" {
		data["callback_id"] = j.callbackID
	}
	if j.language != "" {
		data["output_language"] = j.language
	}
	body, _ = json.Marshal(map[string]any{"event_type": kind, "event_data": data})
	return kind, body
}

// delivered reports a delivery. The lock is not held.
func (a *announcer) delivered(d Delivery) {
	if a.report != nil {
		a.report(d)
	}
}

// close ends all deliveries, those under way too.
func (a *announcer) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.cancel()
	for _, n := range a.due {
		n.timer.Stop()
	}
	clear(a.due)
}

// wait returns when no delivery is under way.
func (a *announcer) wait() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.sending > 0 {
		a.idle.Wait()
	}
}
