package vtclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/vtclient/vtclient"
)

func ExampleHeyGenV3() {
	client, err := vtclient.New("https://api.heygen.com",
		vtclient.WithEndpoint(vtclient.HeyGenV3()),
		vtclient.WithHeader("X-Api-Key", "your key"),
		backend(200, `{"data":{"id":"tr_1-es","status":"completed","video_url":"https://files.example.com/es.mp4"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	status, err := client.Wait(context.Background(), "tr_1-es")
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := vtclient.Decode[struct {
		Data struct {
			VideoURL string `json:"video_url"`
		} `json:"data"`
	}](status)
	fmt.Println(status.State, result.Data.VideoURL, err)
	// Output: completed https://files.example.com/es.mp4 <nil>
}

// errNoJob and getJob stand for an SDK of your own.
var errNoJob = errors.New("no such job")

func getJob(_ context.Context, id string) (done bool, url string, err error) {
	if id != "job-1" {
		return false, "", errNoJob
	}
	return true, "https://files.example.com/1.mp4", nil
}

func ExampleWithFetch() {
	fetch := func(ctx context.Context, jobID string) (vtclient.Status, error) {
		done, url, err := getJob(ctx, jobID)
		switch {
		case errors.Is(err, errNoJob):
			return vtclient.Status{}, fmt.Errorf("%w: %w", vtclient.ErrFinal, err) // not retried
		case err != nil:
			return vtclient.Status{}, err // retried
		case !done:
			return vtclient.Status{State: vtclient.StatePending}, nil
		}
		body, err := json.Marshal(url)
		return vtclient.Status{State: vtclient.StateCompleted, Body: body}, err
	}
	client, err := vtclient.New("", vtclient.WithFetch(fetch))
	if err != nil {
		fmt.Println(err)
		return
	}
	status, err := client.Wait(context.Background(), "job-1")
	fmt.Println(status.State, string(status.Body), err)
	_, err = client.Wait(context.Background(), "job-2")
	fmt.Println(err)
	fmt.Println(errors.Is(err, errNoJob))
	// Output:
	// completed "https://files.example.com/1.mp4" <nil>
	// vtclient: job "job-2": request 1: WithFetch(vtclient_test.ExampleWithFetch.func1): final: no such job; not retried
	// true
}

// stateWord makes a Status of a backend's word for a state.
func stateWord(word, message string, known map[string]vtclient.State) (vtclient.Status, error) {
	if word == "" {
		return vtclient.Status{}, errors.New("no state in the answer")
	}
	state, ok := known[word]
	if !ok {
		state = vtclient.State(word) // the client names it in its error
	}
	cancelled := slices.Contains([]string{"canceled", "aborted", "CANCELLED", "Canceled"}, word)
	return vtclient.Status{State: state, Message: message, Cancelled: cancelled}, nil
}

// elevenLabs is ElevenLabs' dubbing: GET /v1/dubbing/{dubbing_id}, the key in
// Xi-Api-Key. The dub itself is then at /v1/dubbing/{dubbing_id}/audio/{language}.
//
// Source: https://elevenlabs.io/docs/api-reference/dubbing/get
var elevenLabs = vtclient.Endpoint{
	Path: "/v1/dubbing/{id}",
	Decode: func(a vtclient.Answer) (vtclient.Status, error) {
		var v struct{ Status, Error string }
		if err := json.Unmarshal(a.Body, &v); err != nil {
			return vtclient.Status{}, err
		}
		return stateWord(v.Status, v.Error, map[string]vtclient.State{
			"queued": vtclient.StatePending, "preparing": vtclient.StatePending, "dubbing": vtclient.StatePending,
			"dubbed": vtclient.StateCompleted,
			"failed": vtclient.StateFailed,
		})
	},
}

func Example_elevenLabs() {
	client, _ := vtclient.New("https://api.elevenlabs.io", vtclient.WithEndpoint(elevenLabs),
		vtclient.WithHeader("Xi-Api-Key", "your key"),
		backend(200, `{"dubbing_id":"21m0","name":"Launch","status":"dubbed","target_languages":["es"]}`))
	status, err := client.Wait(context.Background(), "21m0")
	fmt.Println(status.State, err)
	// Output: completed <nil>
}

// replicate is a prediction of Replicate's: GET /v1/predictions/{id}, with
// Authorization: Bearer. The output is in Status.Body.
//
// Sources: https://replicate.com/docs/reference/http,
// https://replicate.com/docs/topics/predictions/lifecycle
var replicate = vtclient.Endpoint{
	Path:   "/v1/predictions/{id}",
	Cancel: "POST /v1/predictions/{id}/cancel",
	Decode: func(a vtclient.Answer) (vtclient.Status, error) {
		var v struct{ Status, Error string }
		if err := json.Unmarshal(a.Body, &v); err != nil {
			return vtclient.Status{}, err
		}
		return stateWord(v.Status, v.Error, map[string]vtclient.State{
			"starting": vtclient.StatePending, "processing": vtclient.StatePending,
			"succeeded": vtclient.StateCompleted,
			"failed":    vtclient.StateFailed, "canceled": vtclient.StateFailed, "aborted": vtclient.StateFailed,
		})
	},
}

func Example_replicate() {
	client, _ := vtclient.New("https://api.replicate.com", vtclient.WithEndpoint(replicate),
		vtclient.WithHeader("Authorization", "Bearer your-token"),
		backend(200, `{"id":"gm3q","status":"canceled","output":null,"error":null}`))
	_, err := client.Wait(context.Background(), "gm3q")
	fmt.Println(err)
	// Output: vtclient: job "gm3q" was cancelled
}

// runway is a task of Runway's: GET /v1/tasks/{id}, with Authorization: Bearer and
// X-Runway-Version. The answer has the progress while the task is running.
//
// Source: https://docs.dev.runwayml.com/api/
var runway = vtclient.Endpoint{
	Path:   "/v1/tasks/{id}",
	Cancel: "DELETE /v1/tasks/{id}",
	Decode: func(a vtclient.Answer) (vtclient.Status, error) {
		var v struct {
			Status, Failure string
			Progress        float64
		}
		if err := json.Unmarshal(a.Body, &v); err != nil {
			return vtclient.Status{}, err
		}
		st, err := stateWord(v.Status, v.Failure, map[string]vtclient.State{
			"PENDING": vtclient.StatePending, "THROTTLED": vtclient.StatePending, "RUNNING": vtclient.StatePending,
			"SUCCEEDED": vtclient.StateCompleted,
			"FAILED":    vtclient.StateFailed, "CANCELLED": vtclient.StateFailed,
		})
		st.Progress = v.Progress
		return st, err
	},
}

func Example_runway() {
	client, _ := vtclient.New("https://api.dev.runwayml.com", vtclient.WithEndpoint(runway),
		vtclient.WithHeader("Authorization", "Bearer your-key"), vtclient.WithHeader("X-Runway-Version", "2024-11-06"),
		backend(200, `{"id":"17f2","status":"RUNNING","createdAt":"2024-06-27T19:49:32Z","progress":0.4}`))
	status, err := client.Status(context.Background(), "17f2")
	fmt.Println(status.State, status.Progress, err)
	// Output: pending 0.4 <nil>
}

// assemblyAI is a transcript of AssemblyAI's: GET /v2/transcript/{id}, the bare
// key in Authorization. Its words are nearly those of the plain API.
//
// Source: https://www.assemblyai.com/docs/pre-recorded-audio/transcript-status
var assemblyAI = vtclient.Endpoint{
	Path: "/v2/transcript/{id}",
	Decode: func(a vtclient.Answer) (vtclient.Status, error) {
		var v struct{ Status, Error string }
		if err := json.Unmarshal(a.Body, &v); err != nil {
			return vtclient.Status{}, err
		}
		return stateWord(v.Status, v.Error, map[string]vtclient.State{
			"queued": vtclient.StatePending, "processing": vtclient.StatePending,
			"completed": vtclient.StateCompleted,
			"error":     vtclient.StateFailed,
		})
	},
}

func Example_assemblyAI() {
	client, _ := vtclient.New("https://api.assemblyai.com", vtclient.WithEndpoint(assemblyAI),
		vtclient.WithHeader("Authorization", "your key"),
		backend(200, `{"id":"9ea6","status":"error","error":"Download error, unable to access file"}`))
	_, err := client.Wait(context.Background(), "9ea6")
	fmt.Println(err)
	// Output: vtclient: job "9ea6" failed: "Download error, unable to access file"
}

// googleOperation is a long-running operation of a Google API:
// GET /v1/{name=projects/*/locations/*/operations/*}. The id is the last part of
// the name: one with slashes would be escaped. There is no word for the state:
// what is not done is running, and what is done has an error or a response.
//
// Sources: https://google.aip.dev/151,
// https://cloud.google.com/deploy/docs/api/reference/rest/v1/projects.locations.operations
var googleOperation = vtclient.Endpoint{
	Path: "/v1/projects/my-project/locations/us-central1/operations/{id}",
	Decode: func(a vtclient.Answer) (vtclient.Status, error) {
		var v struct {
			Name  string
			Done  bool
			Error *struct{ Message string }
		}
		switch err := json.Unmarshal(a.Body, &v); {
		case err != nil:
			return vtclient.Status{}, err
		case v.Name == "": // a field that is false is left out, so its absence means nothing
			return vtclient.Status{}, errors.New("not an operation")
		case !v.Done:
			return vtclient.Status{State: vtclient.StatePending}, nil
		case v.Error != nil:
			return vtclient.Status{State: vtclient.StateFailed, Message: v.Error.Message}, nil
		}
		return vtclient.Status{State: vtclient.StateCompleted}, nil
	},
}

func Example_googleOperation() {
	bearer := func(r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+"a token that is renewed")
		return nil
	}
	client, _ := vtclient.New("https://speech.googleapis.com", vtclient.WithEndpoint(googleOperation), vtclient.WithRequest(bearer),
		backend(200, `{"name":"projects/my-project/locations/us-central1/operations/7","done":true,"error":{"code":3,"message":"no audio"}}`))
	_, err := client.Wait(context.Background(), "7")
	fmt.Println(err)
	// Output: vtclient: job "7" failed: "no audio"
}

// azureOperation is an operation of Azure's video translation; other services of
// Azure differ in the path. While it runs, the answer is a 200 with a Retry-After,
// which the client obeys without the Endpoint's help.
//
// Sources: https://learn.microsoft.com/rest/api/aiservices/videotranslation/operation-operations/get-operation,
// https://github.com/microsoft/api-guidelines/blob/vNext/azure/Guidelines.md
var azureOperation = vtclient.Endpoint{
	Path: "/videotranslation/operations/{id}?api-version=2025-05-20",
	Decode: func(a vtclient.Answer) (vtclient.Status, error) {
		var v struct {
			Status string
			Error  struct{ Code, Message string }
		}
		if err := json.Unmarshal(a.Body, &v); err != nil {
			return vtclient.Status{}, err
		}
		return stateWord(v.Status, v.Error.Message, map[string]vtclient.State{
			"NotStarted": vtclient.StatePending, "Running": vtclient.StatePending,
			"Succeeded": vtclient.StateCompleted,
			"Failed":    vtclient.StateFailed, "Canceled": vtclient.StateFailed,
		})
	},
}

func Example_azureOperation() {
	delays := make(chan time.Duration, 1)
	scheduled := vtclient.Trace{Scheduled: func(_ context.Context, i vtclient.TraceInfo) { delays <- i.Delay }}
	client, _ := vtclient.New("https://eastus.api.cognitive.microsoft.com", vtclient.WithEndpoint(azureOperation),
		vtclient.WithHeader("Ocp-Apim-Subscription-Key", "your key"), vtclient.WithTrace(scheduled),
		vtclient.WithPolling(vtclient.Constant(time.Second)),
		vtclient.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, `{"id":"my-operation","status":"Running"}`, "Retry-After: 20"), nil
		})}))
	for status, err := range client.Watch(context.Background(), "my-operation") {
		fmt.Println(status.State, err)
		fmt.Println("next request in", <-delays)
		break
	}
	// Output:
	// pending <nil>
	// next request in 20s
}
