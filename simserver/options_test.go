package simserver_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

// A journal collects lines from several goroutines.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) take() string {
	synctest.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	defer func() { j.lines = nil }()
	slices.Sort(j.lines)
	return strings.Join(j.lines, "\n")
}

func TestOnJobReportsEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen journal
		sim := simserver.StartInMemory(t, simserver.WithAutoCreate(), simserver.WithOnJob(func(j simserver.Job) {
			seen.add("%s %v fail=%v", j.ID, j.Duration, j.Fail)
		}))
		for _, step := range []struct {
			name string
			do   func()
			want string
		}{
			{"the default job is there from the start", func() {}, ""},
			{"created", func() { sim.Create(simserver.Job{ID: "a", Duration: time.Minute}) }, "a 1m0s fail=false"},
			{"replaced", func() { sim.Create(simserver.Job{ID: "a", Duration: time.Hour}) }, "a 1h0m0s fail=false"},
			{"created over HTTP", func() { post(sim, `{"id":"b","duration":3}`) }, "b 3s fail=false"},
			{"taken id", func() { post(sim, `{"id":"b","duration":3}`) }, ""},
			{"created by asking", func() { get(sim, "/status/c"); get(sim, "/status/c") }, "c 10s fail=false"},
			{"ended", func() { time.Sleep(time.Second); sim.Fail("c", ""); sim.Complete("a") }, "a 1s fail=false\nc 1s fail=true"},
			{"ended already", func() { sim.Complete("a") }, ""},
			{"over by itself", func() { time.Sleep(time.Minute) }, ""},
		} {
			step.do()
			if got := seen.take(); got != step.want {
				t.Errorf("%s: got %q, want %q", step.name, got, step.want)
			}
		}
	})
}

func TestOnDeliveryReportsWhatBecameOfEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen journal
		refuse := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
		sim := simserver.StartInMemory(t, simserver.WithOnDelivery(func(d simserver.Delivery) {
			if !d.Time.Equal(time.Now()) {
				t.Errorf("time %v, want now", d.Time)
			}
			seen.add("%s lost=%v %v", d.JobID, d.Lost, d.Err)
		}))
		for _, step := range []struct {
			id   string
			hook simserver.Webhook
			want string
		}{
			{"arrives", simserver.Webhook{Handler: new(webhookReceiver), Secret: "s"}, "arrives lost=false <nil>"},
			{"twice", simserver.Webhook{Handler: new(webhookReceiver), Secret: "s", Duplicates: 1}, "twice lost=false <nil>\ntwice lost=false <nil>"},
			{"refused", simserver.Webhook{Handler: refuse, Secret: "s"}, "refused lost=false 403 Forbidden"},
			{"lost", simserver.Webhook{Handler: new(webhookReceiver), Secret: "s", Loss: 1}, "lost lost=true <nil>"},
		} {
			sim.SetWebhook(step.hook)
			sim.Create(simserver.Job{ID: step.id, Duration: time.Second})
			time.Sleep(2 * time.Second)
			if got := seen.take(); got != step.want {
				t.Errorf("%s: got %q, want %q", step.id, got, step.want)
			}
		}
	})
}
