package vtclient_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"slices"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// exampleClient returns a client of a simulated backend, and a function that ends both.
func exampleClient(opts ...vtclient.Option) (*simserver.Server, *vtclient.Client, func()) {
	sim := simserver.StartInMemory(nil)
	opts = append(opts, vtclient.WithHTTPClient(sim.HTTPClient()))
	client, err := vtclient.New(sim.URL(), opts...)
	if err != nil {
		log.Fatal(err)
	}
	return sim, client, sim.Close
}

func ExampleClient_Wait() {
	// Jobs of milliseconds, so that the example is quick: a request is worth little.
	sim, client, stop := exampleClient(vtclient.WithPolling(vtclient.NewAdaptive(time.Millisecond)))
	defer stop()
	id := sim.Create(simserver.Job{ID: "holiday", Duration: 50 * time.Millisecond})

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	st, err := client.Wait(ctx, id)
	switch {
	case errors.Is(err, vtclient.ErrJobFailed):
		fmt.Println("the translation failed:", st.Message)
	case err != nil:
		fmt.Println("no result:", err)
	default:
		fmt.Println(st.JobID, st.State)
	}
	// Output: holiday completed
}

func ExampleClient_Watch() {
	sim, client, stop := exampleClient(vtclient.WithPolling(vtclient.Constant(20 * time.Millisecond)))
	defer stop()
	id := sim.Create(simserver.Job{ID: "holiday", Duration: simserver.Never})

	for st, err := range client.Watch(context.Background(), id) {
		if err != nil {
			fmt.Println("no result:", err)
			break
		}
		fmt.Println(st.State)
		sim.Complete(id)
	}
	// Output:
	// pending
	// completed
}

func ExampleClient_WaitAll() {
	sim, client, stop := exampleClient()
	defer stop()
	sim.Create(simserver.Job{ID: "holiday", Duration: -1})
	sim.Create(simserver.Job{ID: "wedding", Duration: -1, Fail: true, Message: "no speech found"})

	var lines []string
	jobs := vtclient.Jobs("holiday", "wedding", "lost")
	for st, err := range client.WaitAll(context.Background(), jobs) {
		lines = append(lines, fmt.Sprintf("%s: %s %v", st.JobID, st.State, err))
	}
	slices.Sort(lines) // they come in the order in which the jobs end
	for _, line := range lines {
		fmt.Println(line)
	}
	// Output:
	// holiday: completed <nil>
	// lost:  vtclient: job "lost": request 1: 404 Not Found: "{\"error\":\"no job \\\"lost\\\"\"}"; not retried: a 404 is final
	// wedding: error vtclient: job "wedding" failed: "no speech found"
}

func ExampleClient_Hint() {
	sim, client, stop := exampleClient(vtclient.WithPolling(vtclient.Constant(time.Hour)))
	defer stop()
	id := sim.Create(simserver.Job{ID: "holiday", Duration: simserver.Never})

	st, err := client.Wait(context.Background(), id, vtclient.OnProgress(func(st vtclient.Status) {
		if st.State == vtclient.StatePending {
			sim.Complete(id)
			client.Hint(id) // as a webhook's handler would: the next poll is an hour away
		}
	}))
	fmt.Println(st.State, err)
	// Output: completed <nil>
}

func ExampleOnProgress() {
	sim, client, stop := exampleClient(vtclient.WithPolling(vtclient.Constant(250 * time.Millisecond)))
	defer stop()
	id := sim.Create(simserver.Job{ID: "holiday", Duration: simserver.Never})

	_, err := client.Wait(context.Background(), id, vtclient.OnProgress(func(st vtclient.Status) {
		fmt.Println(st.JobID, "is", st.State)
		sim.Complete(id)
	}))
	fmt.Println(err)
	// Output:
	// holiday is pending
	// holiday is completed
	// <nil>
}

func ExampleOnError() {
	sim, client, stop := exampleClient(vtclient.WithRetry(vtclient.Constant(20 * time.Millisecond)))
	defer stop()
	id := sim.Create(simserver.Job{ID: "holiday", Duration: -1})
	sim.SetFaults(simserver.Faults{Status: map[int]float64{503: 1}, Limit: 2})

	st, err := client.Wait(context.Background(), id, vtclient.OnError(func(err error) {
		var h *vtclient.HTTPError
		if errors.As(err, &h) {
			fmt.Printf("request %d: %d, next in %v\n", h.Attempt, h.StatusCode, h.Next)
		}
	}))
	fmt.Println(st.State, err)
	// Output:
	// request 1: 503, next in 20ms
	// request 2: 503, next in 20ms
	// completed <nil>
}
