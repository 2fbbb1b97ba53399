package vtclient_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/vtclient/vtclient"
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
	// vtclient: job "job-1": request 1: 404 Not Found: "no such job"; not retried: a 404 is final
}
