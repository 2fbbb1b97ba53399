package vtclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// backend stands for a translation backend that gives one answer.
func backend(code int, body string) vtclient.Option {
	return vtclient.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
		return respond(r, code, body), nil
	})})
}

func ExampleNew() {
	_, err := vtclient.New("api.example.com", vtclient.WithTimeout(-time.Second))
	fmt.Println(err)
	// Output:
	// vtclient: New: baseURL: got scheme "" in "api.example.com", want scheme http or https, as in https://api.example.com
	// vtclient: WithTimeout: got -1s, want a positive value
}

func ExampleClient_Status() {
	client, err := vtclient.New("https://api.example.com", vtclient.WithHeader("X-Api-Key", "secret"),
		backend(200, `{"result":"pending","progress":0.25}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	st, err := client.Status(context.Background(), "job-1")
	fmt.Println(st.JobID, st.State, st.Progress, err)
	// Output: job-1 pending 0.25 <nil>
}

func ExampleExponential() {
	retry := vtclient.Exponential{Base: time.Second, Max: 10 * time.Second, Limit: 6}
	for n := 1; ; n++ {
		delay, ok := retry.Next(vtclient.Attempt{Number: n})
		if !ok {
			break
		}
		fmt.Print(delay, " ")
	}
	// Output: 1s 2s 4s 8s 10s
}

func ExampleDecode() {
	client, _ := vtclient.New("https://api.example.com", backend(200, `{"result":"completed","video_url":"https://v.example.com/1"}`))
	st, err := client.Status(context.Background(), "job-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := vtclient.Decode[struct {
		VideoURL string `json:"video_url"`
	}](st)
	fmt.Println(result.VideoURL, err)
	// Output: https://v.example.com/1 <nil>
}

func ExampleWithEndpoint() {
	words := map[string]vtclient.State{"RUNNING": vtclient.StatePending, "DONE": vtclient.StateCompleted}
	endpoint := vtclient.Endpoint{
		Path: "/v2/translations/{id}",
		Decode: func(a vtclient.Answer) (vtclient.Status, error) {
			word := string(a.Body)
			if state, ok := words[word]; ok {
				return vtclient.Status{State: state}, nil
			}
			return vtclient.Status{State: vtclient.State(word)}, nil // the client names it in its error
		},
	}
	client, _ := vtclient.New("https://api.example.com", vtclient.WithEndpoint(endpoint), backend(200, "RUNNING"))
	st, err := client.Status(context.Background(), "job-1")
	fmt.Println(st.State, err)
	// Output: pending <nil>
}

func ExampleWithTrace() {
	requests := 0
	trace := vtclient.Trace{Answered: func(_ context.Context, i vtclient.TraceInfo) {
		requests++
		fmt.Println(i.JobID, i.StatusCode, i.State)
	}}
	client, _ := vtclient.New("https://api.example.com", vtclient.WithTrace(trace), backend(200, `{"result":"pending"}`))
	client.Status(context.Background(), "job-1")
	client.Status(context.Background(), "job-1") // from the cache
	fmt.Println(requests, "request")
	// Output:
	// job-1 200 pending
	// 1 request
}

func ExampleHTTPError() {
	client, _ := vtclient.New("https://api.example.com", backend(404, "no such job"))
	_, err := client.Status(context.Background(), "job-1")
	var answer *vtclient.HTTPError
	if errors.As(err, &answer) {
		fmt.Println(answer.StatusCode, answer.Excerpt)
	}
	fmt.Println(err)
	// Output:
	// 404 no such job
	// vtclient: job "job-1": request 1: GET api.example.com/status/{id}: 404 Not Found: "no such job"; not retried: a 404 is final
}

// tripper answers requests without a network.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(r *http.Request, code int, body string, header ...string) *http.Response {
	h := http.Header{}
	for _, line := range header {
		k, v, _ := strings.Cut(line, ": ")
		h.Add(k, v)
	}
	return &http.Response{
		StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}
}

// exampleClient returns a simulated backend, a client of it, and a function that ends both.
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
	sim := simserver.Start(nil) // stands for the backend
	defer sim.Close()
	id := sim.Create(simserver.Job{ID: "holiday", Duration: 50 * time.Millisecond})

	// For a job of milliseconds, a request is worth little waiting. The default is a second.
	client, err := vtclient.New(sim.URL(), vtclient.WithPolling(vtclient.NewAdaptive(time.Millisecond)))
	if err != nil {
		log.Fatal(err)
	}

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
	// lost:  vtclient: job "lost": request 1: GET sim.invalid/status/{id}: 404 Not Found: "{\"error\":\"no job \\\"lost\\\"\"}"; not retried: a 404 is final
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

// A server that takes the backend's webhook, and a wait that ends by it. The
// polls alone would notice the end an hour later.
func ExampleWebhook() {
	const secret = "whsec_from_your_configuration"
	mux := http.NewServeMux()
	server := httptest.NewServer(mux) // yours
	defer server.Close()
	sim := simserver.Start(nil, simserver.WithWebhook(simserver.Webhook{URL: server.URL + "/webhooks/heygen", Secret: secret}))
	defer sim.Close()

	client, err := vtclient.New(sim.URL(), vtclient.WithPolling(vtclient.Constant(time.Hour)))
	if err != nil {
		log.Fatal(err)
	}
	verify, err := vtclient.VerifyHeyGen(secret)
	if err != nil {
		log.Fatal(err) // an empty secret
	}
	mux.Handle("/webhooks/heygen", &vtclient.Webhook{
		Verify:  verify,
		Hint:    client.Hint, // or a function that passes it to every replica
		OnError: func(r *http.Request, err error) { log.Print(r.RemoteAddr, ": ", err) },
	})

	id := sim.Create(simserver.Job{Duration: 50 * time.Millisecond})
	status, err := client.Wait(context.Background(), id)
	fmt.Println(status.State, err)
	// Output: completed <nil>
}

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

// A task that is under way is cancelled, and the wait for it ends with that.
func ExampleClient_Cancel_runway() {
	status := "RUNNING" // at the backend
	client, _ := vtclient.New("https://api.dev.runwayml.com", vtclient.WithEndpoint(runway),
		vtclient.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			fmt.Println(r.Method, r.URL.Path)
			if r.Method == http.MethodDelete {
				status = "CANCELLED"
				return respond(r, 204, ""), nil
			}
			return respond(r, 200, `{"id":"17f2","status":"`+status+`"}`), nil
		})}))
	ctx := context.Background()
	var failed *vtclient.JobError
	for status, err := range client.Watch(ctx, "17f2") {
		if errors.As(err, &failed) {
			fmt.Println(failed.Status.Cancelled, err)
		} else if err := client.Cancel(ctx, status.JobID); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// GET /v1/tasks/17f2
	// DELETE /v1/tasks/17f2
	// GET /v1/tasks/17f2
	// true vtclient: job "17f2" was cancelled
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

// After a hundred jobs of one to two minutes, Explain has the ages at which to ask.
func ExampleAdaptive() {
	cadence := vtclient.NewAdaptive(5 * time.Second) // what a request is worth
	for i := range 100 {
		duration := time.Minute + time.Duration(i*37%60)*time.Second
		cadence.Learn(vtclient.Completion{PendingAt: duration - 2*time.Second, DoneBy: duration})
	}

	forecast := cadence.Explain(vtclient.Attempt{}) // a job begins now
	fmt.Println("half of the jobs are over after about", forecast.Median.Round(30*time.Second))
	fmt.Println("the first poll is made after about", forecast.Polls[0].Round(20*time.Second))

	// Now and then a poll is made earlier than that, to notice when jobs have
	// become shorter.
	delay, _ := cadence.Next(vtclient.Attempt{})
	fmt.Println("and never at once:", delay > 30*time.Second)
	// Output:
	// half of the jobs are over after about 1m30s
	// the first poll is made after about 1m20s
	// and never at once: true
}

// What one process has learnt serves the next, and replicas can pool what they
// know.
func ExampleAdaptive_Merge() {
	before := vtclient.NewAdaptive(time.Second)
	for range 20 {
		before.Learn(vtclient.Completion{PendingAt: 58 * time.Second, DoneBy: time.Minute})
	}
	saved, err := before.MarshalText()
	if err != nil {
		log.Fatal(err)
	}

	restored, mine := vtclient.NewAdaptive(time.Second), vtclient.NewAdaptive(time.Second)
	if err := restored.UnmarshalText(saved); err != nil {
		log.Fatal(err)
	}
	mine.Merge(restored)
	fmt.Println("jobs remembered:", mine.Explain(vtclient.Attempt{}).Jobs)
	// Output: jobs remembered: 20
}
