package contract_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"
	"unsafe"

	"github.com/vtclient/vtclient"
)

// The suites see the library from outside, with three exceptions that no caller could
// observe: what a client still holds, when a poll began, and a learner's random numbers.

// field returns an unexported field of what v points to.
func field(v any, path ...string) reflect.Value {
	r := reflect.ValueOf(v).Elem()
	for _, name := range path {
		r = reflect.Indirect(r).FieldByName(name)
	}
	return reflect.NewAt(r.Type(), unsafe.Pointer(r.UnsafeAddr())).Elem()
}

func lock(c *vtclient.Client) (unlock func()) {
	mu := field(c, "engine", "mu").Addr().Interface().(*sync.Mutex)
	mu.Lock()
	return mu.Unlock
}

// leftovers returns an error if a client without a call under way holds anything.
func leftovers(c *vtclient.Client) error {
	defer lock(c)()
	e := field(c, "engine").Addr().Interface()
	due := false
	for turns, i := field(e, "agenda", "turns"), 0; i < turns.Len(); i++ {
		due = due || !turns.Index(i).IsNil()
	}
	got := []any{
		field(e, "polls", "n").Int(), field(e, "agenda", "heap").Len(), due, field(e, "underWay").Int(), !field(e, "timer").IsNil(),
		field(e, "completions", "order").Len(), field(e, "completions", "ready").Len(),
		field(c, "admission", "gate").Len(), field(c, "flights", "calls").Len(),
	}
	if text := fmt.Sprint(got...); text != fmt.Sprint(0, 0, false, 0, false, 0, 0, 0, 0) {
		return fmt.Errorf("polls, heap, due, under way, timer, order, completions, gate, flights: %v", got)
	}
	return nil
}

// pollOf returns the poll of a job, nil if there is none, and when its last exchange began.
func pollOf(c *vtclient.Client, id string) (p any, started time.Duration) {
	defer lock(c)()
	parts := reflect.Indirect(field(c, "engine", "polls", "parts"))
	for i := 0; parts.IsValid() && i < parts.Len(); i++ {
		polls := parts.Index(i).FieldByName("polls")
		if e := polls.MapIndex(reflect.ValueOf(id)); e.IsValid() {
			return e.Pointer(), time.Duration(e.Elem().FieldByName("started").Int())
		}
	}
	return nil, 0
}

// setSeed makes all that is random in a learner follow from a number. It comes before the
// learner's first use.
func setSeed(a *vtclient.Adaptive, number uint64) {
	r := rand.New(rand.NewPCG(number, 0))
	field(a, "explore").Addr().Interface().(interface{ Store(uint32) }).Store(r.Uint32())
	var mu sync.Mutex
	field(a, "chance").Set(reflect.ValueOf(func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64()
	}))
}

// seeded returns a learner that does the same in each run.
func seeded(cost time.Duration, number uint64) *vtclient.Adaptive {
	a := vtclient.NewAdaptive(cost)
	setSeed(a, number)
	return a
}
