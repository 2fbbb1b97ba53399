package vtclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"slices"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// heygen returns a client of a simulated HeyGen whose jobs take so long, and the simulation.
func heygen(d time.Duration) (*simserver.Server, *vtclient.Client) {
	sim := simserver.StartInMemory(nil, simserver.WithDurations(simserver.Fixed(d)))
	client, err := vtclient.New(sim.URL(), vtclient.WithEndpoint(vtclient.HeyGenV3()), vtclient.WithHTTPClient(sim.HTTPClient()),
		vtclient.WithPolling(vtclient.NewAdaptive(time.Millisecond))) // for jobs of milliseconds
	if err != nil {
		log.Fatal(err)
	}
	return sim, client
}

func ExampleClient_Submit() {
	sim, client := heygen(time.Millisecond)
	defer sim.Close()
	ctx := context.Background()

	// The key is stored with the order: submitted again after a crash, it creates nothing new.
	jobs, err := client.Submit(ctx, "order-17", vtclient.HeyGenRequest{
		VideoURL: "https://files.example.com/launch.mp4", Languages: []string{"German", "French"},
	})
	var failed *vtclient.SubmitError
	switch {
	case errors.As(err, &failed) && failed.MaybeSubmitted:
		fmt.Println("submit it again with key", failed.Key)
	case err != nil:
		fmt.Println("nothing was submitted:", err)
	}
	for status, err := range client.WaitAll(ctx, slices.Values(jobs)) {
		result, _ := vtclient.Decode[vtclient.HeyGenResult](status)
		fmt.Println(status.JobID, result.Data.VideoURL != "", err)
	}
	// Unordered output:
	// job-1 true <nil>
	// job-2 true <nil>
}

// 500 videos, on a plan that runs ten jobs at a time.
func ExampleAtMost() {
	sim, client := heygen(time.Millisecond)
	defer sim.Close()
	videos := make([]string, 500)
	for i := range videos {
		videos[i] = fmt.Sprintf("https://files.example.com/%d.mp4", i)
	}
	videos[499] = ""

	ctx, translated := context.Background(), 0
	jobs := func(yield func(vtclient.Job) bool) { // submits as it is read
		for _, video := range videos {
			submitted, err := client.Submit(ctx, "", vtclient.HeyGenRequest{VideoURL: video, Languages: []string{"German"}})
			if err != nil {
				fmt.Println("not submitted:", err)
				continue
			}
			if !yield(submitted[0]) {
				return
			}
		}
	}
	for _, err := range client.WaitAll(ctx, jobs, vtclient.AtMost(10)) {
		if err == nil {
			translated++
		}
	}
	fmt.Println(translated, "translated")
	// Output:
	// not submitted: vtclient: Submit: body: got a vtclient.HeyGenRequest (one of VideoURL and AssetID has to be set, and not both), want a value that marshals to JSON
	// 499 translated
}

func ExampleClient_Cancel() {
	client, _ := vtclient.New("https://api.replicate.com", vtclient.WithEndpoint(replicate),
		vtclient.WithHeader("Authorization", "Bearer your-token"),
		backend(200, `{"id":"gm3q","status":"canceled","output":null,"error":null}`))
	ctx := context.Background()
	if err := client.Cancel(ctx, "gm3q"); err != nil { // POST /v1/predictions/gm3q/cancel
		fmt.Println(err)
	}
	status, err := client.Wait(ctx, "gm3q")
	fmt.Println(status.Cancelled, err)
	// Output: true vtclient: job "gm3q" was cancelled
}

func ExampleOnOverdue() {
	sim, client, stop := exampleClient(vtclient.WithPolling(vtclient.Constant(20 * time.Millisecond)))
	defer stop()
	id := sim.Create(simserver.Job{ID: "holiday", Duration: simserver.Never})

	_, err := client.Wait(context.Background(), id,
		vtclient.Expect(50*time.Millisecond), // so that it is overdue after 150 ms
		vtclient.OnOverdue(func(status vtclient.Status, f vtclient.Forecast) {
			fmt.Println(status.JobID, "takes longer than it should: is it stuck?")
			sim.Fail(id, "stuck")
		}))
	fmt.Println(err)
	// Output:
	// holiday takes longer than it should: is it stuck?
	// vtclient: job "holiday" failed: "stuck"
}

// A worker that is killed, and goes on with the same jobs, the same ages and the same
// knowledge. It stores the jobs when they are submitted, and what was learnt now and then.
func ExampleJob() {
	sim, client := heygen(time.Millisecond)
	defer sim.Close()
	ctx := context.Background()
	submitted, err := client.Submit(ctx, "order-17", vtclient.HeyGenRequest{VideoURL: "https://files.example.com/launch.mp4", Languages: []string{"German"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	storedJobs, _ := json.Marshal(submitted)
	storedKnowledge, _ := vtclient.NewAdaptive(time.Millisecond).MarshalText()

	// The worker is killed here. The next one begins:
	knowledge := vtclient.NewAdaptive(time.Millisecond)
	if err := knowledge.UnmarshalText(storedKnowledge); err != nil {
		fmt.Println(err)
		return
	}
	var jobs []vtclient.Job
	if err := json.Unmarshal(storedJobs, &jobs); err != nil {
		fmt.Println(err)
		return
	}
	next, err := vtclient.New(sim.URL(), vtclient.WithEndpoint(vtclient.HeyGenV3()),
		vtclient.WithPolling(knowledge), vtclient.WithHTTPClient(sim.HTTPClient()))
	if err != nil {
		fmt.Println(err)
		return
	}
	for status, err := range next.WaitAll(ctx, slices.Values(jobs)) {
		fmt.Println(status.JobID, status.State, err)
	}
	fmt.Println(knowledge.Explain(vtclient.Attempt{}).Jobs, "job learnt")
	// Output:
	// job-1 completed <nil>
	// 1 job learnt
}
