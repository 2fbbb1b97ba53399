package vtclient

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever comes, the memory of replays holds the same names in both of its
// forms, and no more than 8192, also where one event alone has more.
func TestWebhookMemoryKeepsItsBound(t *testing.T) {
	names := func(from, n int) (d []digest) {
		for i := range n {
			sum := sha256.Sum256(fmt.Append(nil, from+i))
			d = append(d, digest(sum[:16]))
		}
		return d
	}
	synctest.Test(t, func(t *testing.T) {
		h := &Webhook{}
		for i, step := range []struct {
			pause   time.Duration
			names   []digest
			forget  bool
			first   bool
			remains int
		}{
			{0, names(0, 10), false, true, 10},
			{0, names(9, 5), false, false, 10},
			{0, names(10, 5), true, true, 10},
			{0, names(10, 5), false, true, 15},
			{0, names(20, replayNames-15), false, true, replayNames},
			{0, names(0, 1), false, false, replayNames},
			{0, names(-1, 1), false, true, replayNames},
			{0, names(1, 1), false, false, replayNames},
			{0, names(0, 1), false, true, replayNames},
			{0, names(50_000, 3*replayNames), false, true, replayNames},
			{0, names(50_000, 1), false, false, replayNames},
			{0, names(50_000+replayNames, 1), false, true, replayNames},
			{replayMemory, names(50_000+2, 1), false, false, replayNames},
			{1, names(50_000+2, 1), false, true, 1},
		} {
			time.Sleep(step.pause)
			if got := h.first(step.names, time.Now()); got != step.first {
				t.Errorf("step %d: first %v", i, got)
			}
			if step.forget {
				h.forget(step.names)
			}
			if len(h.seen) != step.remains || len(h.order) != step.remains {
				t.Errorf("step %d: %d names, %d in order, want %d", i, len(h.seen), len(h.order), step.remains)
			}
		}
	})
}
