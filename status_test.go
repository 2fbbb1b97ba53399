package vtclient_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/vtclient/vtclient"
)

// Property 17: nothing but the two ends of a job is terminal.
func TestTerminal(t *testing.T) {
	for s, want := range map[vtclient.State]bool{
		vtclient.StatePending: false, vtclient.StateCompleted: true, vtclient.StateFailed: true, "": false, "COMPLETED": false, "failed": false,
	} {
		if got := s.Terminal(); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestDecodeReadsTheBodyOrNamesTheJob(t *testing.T) {
	type result struct {
		URL string `json:"video_url"`
	}
	for _, tt := range []struct {
		name, body, want, err string
	}{
		{"a body that fits", `{"result":"completed","video_url":"u"}`, "u", ""},
		{"no body", "", "", `job "a\nb" (completed): the status has no body to decode into vtclient_test.result`},
		{"another shape", `{"video_url":7}`, "", `job "a\nb" (completed): decode body into vtclient_test.result: json:`},
		{"not JSON", `<`, "", `job "a\nb" (completed): decode body into`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := vtclient.Decode[result](vtclient.Status{JobID: "a\nb", State: "completed", Body: []byte(tt.body)})
			if got.URL != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%+v, %v; want %q, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestJobsYieldsTheIDsInOrderAndMayBeLeft(t *testing.T) {
	var got []string
	for j := range vtclient.Jobs("a", "", "a", "b") {
		if got = append(got, j.ID); len(got) == 3 {
			break
		}
	}
	if !slices.Equal(got, []string{"a", "", "a"}) {
		t.Errorf("%q", got)
	}
	for j := range vtclient.Jobs() {
		t.Errorf("%+v out of no ids", j)
	}
}
