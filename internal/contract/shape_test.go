package contract_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vtclient/vtclient"
)

// answering returns a client of a backend that answers with a body, and tries once.
func answering(t *testing.T, body string, e vtclient.Endpoint) *vtclient.Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
	t.Cleanup(s.Close)
	c, err := vtclient.New(s.URL, vtclient.WithEndpoint(e), vtclient.WithRetry(vtclient.Exponential{Limit: 1}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// An answer that is JSON of another shape is described in the words of JSON, not by the
// types of Go, whichever Endpoint reads it.
func TestJSONOfAnotherShapeIsDescribedAsJSON(t *testing.T) {
	own := func(v any) vtclient.Endpoint {
		return vtclient.Endpoint{Path: "/{id}", Decode: func(a vtclient.Answer) (vtclient.Status, error) {
			if err := json.Unmarshal(a.Body, v); err != nil {
				return vtclient.Status{}, fmt.Errorf("my API: %w", err)
			}
			return vtclient.Status{}, errors.New("it fits")
		}}
	}
	var v struct {
		N    int8
		On   bool
		Name string
		Next *struct{ F float64 }
		List []map[string]uint16
		Any  chan int
	}
	for _, tt := range []struct {
		endpoint vtclient.Endpoint
		body     string
		want     string
	}{
		{vtclient.Endpoint{}, `[]`, "a JSON array, expected an object"},
		{vtclient.Endpoint{}, `[{"result":"completed"}]`, "a JSON array, expected an object"},
		{vtclient.Endpoint{}, `7`, "a JSON number, expected an object"},
		{vtclient.Endpoint{}, `"completed"`, "a JSON string, expected an object"},
		{vtclient.Endpoint{}, `true`, "a JSON boolean, expected an object"},
		{vtclient.Endpoint{}, `null`, `no "result" in the answer`},
		{vtclient.Endpoint{}, `{"result":{}}`, `a JSON object in "result", expected a string`},
		{vtclient.Endpoint{}, `{"result":1.5}`, `a JSON number in "result", expected a string`},
		{vtclient.HeyGenV3(), `[]`, "a JSON array, expected an object"},
		{vtclient.HeyGenV3(), `{"data":"x"}`, `a JSON string in "data", expected an object`},
		{vtclient.HeyGenV3(), `{"data":{"status":["x"]}}`, `a JSON array in "data.status", expected a string`},
		{own(&v), `{"N":300}`, `my API: a JSON number (300) in "N", expected an integer of 8 bits`},
		{own(&v), `{"N":1.5}`, `my API: a JSON number (1.5) in "N", expected an integer of 8 bits`},
		{own(&v), `{"On":"yes"}`, `my API: a JSON string in "On", expected a boolean`},
		{own(&v), `{"Next":{"F":"x"}}`, `my API: a JSON string in "Next.F", expected a number`},
		{own(&v), `{"Next":[]}`, `my API: a JSON array in "Next", expected an object`},
		{own(&v), `{"List":{}}`, `my API: a JSON object in "List", expected an array`},
		{own(&v), `{"List":[3]}`, `my API: a JSON number in "List", expected an object`},
		{own(&v), `{"Any":3}`, `my API: a JSON number in "Any", expected another kind of value`},
		{own(&v), `{}`, "it fits"},
	} {
		_, err := answering(t, tt.body, tt.endpoint).Status(t.Context(), "j")
		var decode *vtclient.DecodeError
		if !errors.As(err, &decode) || !strings.Contains(err.Error(), "unreadable answer: "+tt.want) {
			t.Errorf("%s: %v\nwant %s", tt.body, err, tt.want)
			continue
		}
		for _, syntax := range []string{"struct", "Go ", "json:", "map["} {
			if strings.Contains(strings.Split(err.Error(), "; not retried")[0], syntax) {
				t.Errorf("%s: %v: has %s", tt.body, err, syntax)
			}
		}
		var mismatch *json.UnmarshalTypeError
		if errors.As(err, &mismatch) != strings.Contains(tt.want, "JSON") {
			t.Errorf("%s: the error of encoding/json is found: %t", tt.body, mismatch != nil)
		}
	}
}

// An Endpoint with a Path and without a Decode expects the plain format. An answer
// of another format is reported together with that.
func TestAnEndpointWithoutDecodeNamesItAsTheReason(t *testing.T) {
	const reason = "the Endpoint has no Decode, so the plain format is expected: {\"result\": …}"
	for _, tt := range []struct {
		endpoint vtclient.Endpoint
		body     string
		named    bool
	}{
		{vtclient.Endpoint{Path: "/v1/jobs/{id}"}, `{"status":"done"}`, true},
		{vtclient.Endpoint{Path: "/v1/jobs/{id}"}, `<html>`, true},
		{vtclient.Endpoint{Path: "/v1/jobs/{id}"}, `[]`, true},
		{vtclient.Endpoint{Path: "/status/{id}"}, `{"state":"completed"}`, true},
		{vtclient.Endpoint{Path: "/v1/jobs/{id}", EmptyPath: "/v1/jobs"}, ``, true},
		{vtclient.Endpoint{Path: "/v1/jobs/{id}", Decode: func(vtclient.Answer) (vtclient.Status, error) {
			return vtclient.Status{}, errors.New("no status")
		}}, `{"status":"done"}`, false},
		{vtclient.Endpoint{}, `{"status":"done"}`, false},
		{vtclient.Endpoint{}, `{"status":"done"}`, false},
	} {
		_, err := answering(t, tt.body, tt.endpoint).Status(t.Context(), "j")
		var decode *vtclient.DecodeError
		if !errors.As(err, &decode) || strings.Contains(err.Error(), reason) != tt.named {
			t.Errorf("%+v, %s: %v, the reason is named: %t", tt.endpoint, tt.body, err, !tt.named)
		}
	}
	st, err := answering(t, `{"result":"completed"}`, vtclient.Endpoint{Path: "/v1/jobs/{id}"}).Status(t.Context(), "j")
	if err != nil || st.State != vtclient.StateCompleted {
		t.Errorf("an answer of the plain format: %+v, %v", st, err)
	}
}
