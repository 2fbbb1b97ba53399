package vtclient_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// The backends of the examples, on the answers that their documentation shows.
func TestBackendsOfTheExamples(t *testing.T) {
	const pending, completed, failed = vtclient.StatePending, vtclient.StateCompleted, vtclient.StateFailed
	type answer struct {
		body string
		want vtclient.Status // State "": unreadable
	}
	for _, tt := range []struct {
		name     string
		endpoint vtclient.Endpoint
		id, uri  string
		answers  []answer
		unknown  string // with the word "zombie"; "": the API has no words
	}{
		{"ElevenLabs", elevenLabs, "21m00Tcm4TlvDq8ikWAM", "/v1/dubbing/21m00Tcm4TlvDq8ikWAM", []answer{
			{`{"dubbing_id":"21m00Tcm4TlvDq8ikWAM","name":"My Dubbing Project","status":"preparing","target_languages":[]}`, vtclient.Status{State: pending}},
			{`{"dubbing_id":"21m00Tcm4TlvDq8ikWAM","name":"My Dubbing Project","status":"dubbing","source_language":null,"target_languages":["es"],"error":null}`, vtclient.Status{State: pending}},
			{`{"dubbing_id":"21m00Tcm4TlvDq8ikWAM","name":"My Dubbing Project","status":"dubbed","source_language":"en","target_languages":["es","fr","de"],"created_at":"2025-07-15T14:49:41.149000","editable":true,"media_metadata":{"content_type":"video/mp4","duration":127.5}}`, vtclient.Status{State: completed, Progress: 1}},
			{`{"dubbing_id":"21m00Tcm4TlvDq8ikWAM","status":"failed","error":"no speech was found"}`, vtclient.Status{State: failed, Message: "no speech was found"}},
			{`{"dubbing_id":"21m00Tcm4TlvDq8ikWAM"}`, vtclient.Status{}},
		}, `{"status":"zombie"}`},
		{"Replicate", replicate, "gm3qorzdhgbfurvjtvhg6dckhu", "/v1/predictions/gm3qorzdhgbfurvjtvhg6dckhu", []answer{
			{`{"id":"gm3q","status":"starting","output":null,"error":null,"logs":""}`, vtclient.Status{State: pending}},
			{`{"id":"gm3q","status":"processing","output":null,"error":null,"logs":"12%"}`, vtclient.Status{State: pending}},
			{`{"id":"gm3q","status":"succeeded","output":"https://files.test/v.mp4","error":null,"metrics":{"predict_time":0.012683}}`, vtclient.Status{State: completed, Progress: 1}},
			{`{"id":"gm3q","status":"failed","output":null,"error":"CUDA out of memory"}`, vtclient.Status{State: failed, Message: "CUDA out of memory"}},
			{`{"id":"gm3q","status":"canceled","output":null,"error":null}`, vtclient.Status{State: failed, Cancelled: true}},
			{`{"id":"gm3q","status":"aborted","output":null,"error":null}`, vtclient.Status{State: failed, Cancelled: true}},
			{`{"detail":"upstream"}`, vtclient.Status{}},
		}, `{"status":"zombie","error":null}`},
		{"Runway", runway, "17f20503-6c24-4c16-946b-35dbbce2af2f", "/v1/tasks/17f20503-6c24-4c16-946b-35dbbce2af2f", []answer{
			{`{"id":"17f2","status":"PENDING","createdAt":"2024-06-27T19:49:32.334Z"}`, vtclient.Status{State: pending}},
			{`{"id":"17f2","status":"THROTTLED","createdAt":"2024-06-27T19:49:32.334Z"}`, vtclient.Status{State: pending}},
			{`{"id":"17f2","status":"RUNNING","createdAt":"2024-06-27T19:49:32.334Z","progress":0.25}`, vtclient.Status{State: pending, Progress: 0.25}},
			{`{"id":"17f2","status":"RUNNING","createdAt":"2024-06-27T19:49:32.334Z","progress":null}`, vtclient.Status{State: pending}},
			{`{"id":"17f2","status":"SUCCEEDED","createdAt":"2024-06-27T19:49:32.334Z","output":["https://files.test/v.mp4"]}`, vtclient.Status{State: completed, Progress: 1}},
			{`{"id":"17f2","status":"FAILED","failure":"The input was rejected.","failureCode":"SAFETY.INPUT.TEXT"}`, vtclient.Status{State: failed, Message: "The input was rejected."}},
			{`{"id":"17f2","status":"CANCELLED"}`, vtclient.Status{State: failed, Cancelled: true}},
			{`{"error":"oops"}`, vtclient.Status{}},
		}, `{"status":"zombie"}`},
		{"AssemblyAI", assemblyAI, "9ea68fd3", "/v2/transcript/9ea68fd3", []answer{
			{`{"id":"9ea6","status":"queued","text":null}`, vtclient.Status{State: pending}},
			{`{"id":"9ea6","status":"processing","text":null}`, vtclient.Status{State: pending}},
			{`{"id":"9ea6","status":"completed","text":"Smoke from hundreds of wildfires"}`, vtclient.Status{State: completed, Progress: 1}},
			{`{"id":"9ea6","status":"error","error":"Download error, unable to access file"}`, vtclient.Status{State: failed, Message: "Download error, unable to access file"}},
			{`{"id":"9ea6"}`, vtclient.Status{}},
		}, `{"status":"zombie"}`},
		{"Google", googleOperation, "operation-1", "/v1/projects/my-project/locations/us-central1/operations/operation-1", []answer{
			{`{"name":"projects/my-project/locations/us-central1/operations/operation-1","metadata":{"@type":"t"}}`, vtclient.Status{State: pending}},
			{`{"name":"projects/my-project/locations/us-central1/operations/operation-1","done":false}`, vtclient.Status{State: pending}},
			{`{"name":"projects/my-project/locations/us-central1/operations/operation-1","done":true,"response":{"@type":"t"}}`, vtclient.Status{State: completed, Progress: 1}},
			{`{"name":"projects/my-project/locations/us-central1/operations/operation-1","done":true}`, vtclient.Status{State: completed, Progress: 1}},
			{`{"name":"projects/my-project/locations/us-central1/operations/operation-1","done":true,"error":{"code":3,"message":"no audio","details":[]}}`, vtclient.Status{State: failed, Message: "no audio"}},
			{`{"name":"projects/my-project/locations/us-central1/operations/operation-1","done":true,"error":{"code":1,"message":"The operation was cancelled."}}`, vtclient.Status{State: failed, Message: "The operation was cancelled."}},
			{`{}`, vtclient.Status{}},
		}, ""},
		{"Azure", azureOperation, "my-operation", "/videotranslation/operations/my-operation?api-version=2025-05-20", []answer{
			{`{"id":"my-operation","status":"NotStarted"}`, vtclient.Status{State: pending}},
			{`{"id":"my-operation","status":"Running"}`, vtclient.Status{State: pending}},
			{`{"id":"my-operation","status":"Succeeded"}`, vtclient.Status{State: completed, Progress: 1}},
			{`{"id":"my-operation","status":"Failed","error":{"code":"InvalidInput","message":"The video has no audio."}}`, vtclient.Status{State: failed, Message: "The video has no audio."}},
			{`{"id":"my-operation","status":"Canceled"}`, vtclient.Status{State: failed, Cancelled: true}},
			{`{"id":"my-operation"}`, vtclient.Status{}},
		}, `{"status":"zombie"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ask := func(code int, body string) (vtclient.Status, error) {
				return answeredBy(t, func(r *http.Request) (*http.Response, error) {
					if got := r.URL.RequestURI(); got != tt.uri {
						t.Errorf("asked at %s, want %s", got, tt.uri)
					}
					return respond(r, code, body, "Retry-After: 0"), nil
				}, vtclient.WithRetry(vtclient.Exponential{Limit: 1}), vtclient.WithEndpoint(tt.endpoint)).Status(t.Context(), tt.id)
			}
			unreadable := answer{body: "<html>"}
			for _, a := range append(tt.answers, unreadable) {
				st, err := ask(200, a.body)
				var dec *vtclient.DecodeError
				switch want := a.want; {
				case want.State == "" && !errors.As(err, &dec):
					t.Errorf("%s: %+v, %v; want a DecodeError", a.body, st, err)
				case want.State != "" && (err != nil || st.State != want.State || st.Message != want.Message || st.Progress != want.Progress):
					t.Errorf("%s: %+v, %v; want %+v", a.body, st, err, want)
				}
			}
			if tt.unknown != "" {
				_, err := ask(200, tt.unknown)
				var state *vtclient.UnknownStateError
				if !errors.As(err, &state) || state.Word != "zombie" {
					t.Errorf("an unknown word: %v", err)
				}
			}
			for _, code := range []int{404, 429, 500} {
				_, err := ask(code, `{"status":"dubbed"}`)
				var h *vtclient.HTTPError
				if !errors.As(err, &h) || h.StatusCode != code {
					t.Errorf("%d: %v", code, err)
				}
			}
		})
	}
}

// A 429 with its pause, a 200 with one, and a cancelled job, seen through a whole wait.
func TestBackendsOfTheExamplesInAWait(t *testing.T) {
	const (
		slow   = "429\nRetry-After: 20"
		paused = "\nRetry-After: 20"
	)
	for _, tt := range []struct {
		name     string
		endpoint vtclient.Endpoint
		script   []string
		took     time.Duration // with a poll each 10 s
		err      string        // "": completed
	}{
		{"ElevenLabs, slowed down", elevenLabs, []string{`{"status":"dubbing"}`, slow, `{"status":"dubbed"}`}, 30 * time.Second, ""},
		{"Replicate, canceled", replicate, []string{`{"status":"processing"}`, `{"status":"canceled","error":null}`}, 10 * time.Second, "was cancelled"},
		{"Runway, cancelled", runway, []string{`{"status":"THROTTLED"}`, `{"status":"CANCELLED"}`}, 10 * time.Second, "was cancelled"},
		{"AssemblyAI, slowed down", assemblyAI, []string{`{"status":"queued"}`, slow, `{"status":"completed"}`}, 30 * time.Second, ""},
		{"Google, done", googleOperation, []string{`{"name":"o"}`, `{"name":"o","done":true}`}, 10 * time.Second, ""},
		{"Azure, with pauses of its own", azureOperation, []string{`{"status":"Running"}` + paused, `{"status":"Running"}` + paused, `{"status":"Succeeded"}`}, 40 * time.Second, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				_, err := answeredBy(t, inTurn(tt.script), vtclient.WithEndpoint(tt.endpoint),
					vtclient.WithPolling(vtclient.Constant(10*time.Second))).Wait(t.Context(), "j")
				if took := time.Since(began); took != tt.took || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("after %v: %v; want %q after %v", took, err, tt.err, tt.took)
				}
			})
		})
	}
}

func answeredBy(t *testing.T, f tripper, opts ...vtclient.Option) *vtclient.Client {
	t.Helper()
	c, err := vtclient.New("http://api.test", append(opts, vtclient.WithHTTPClient(&http.Client{Transport: f}))...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// inTurn gives one answer after the other: a body, or a status code ("429"), and behind a
// line break a header.
func inTurn(script []string) tripper {
	return func(r *http.Request) (*http.Response, error) {
		body, header, _ := strings.Cut(script[0], "\n")
		script = script[1:]
		code := http.StatusOK
		if body == "429" {
			code = http.StatusTooManyRequests
		}
		var headers []string
		if header != "" {
			headers = []string{header}
		}
		return respond(r, code, body, headers...), nil
	}
}
