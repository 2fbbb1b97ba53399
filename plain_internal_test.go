package vtclient

import (
	"strings"
	"testing"
)

// What readPlain reads is what encoding/json reads, and it leaves all else.
func checkPlain(t *testing.T, b []byte) (read bool) {
	t.Helper()
	got, ok := readPlain(b)
	if !ok {
		return false
	}
	want, err := readPlainJSON(Answer{Body: b})
	if got.State == "" {
		if err == nil {
			t.Errorf("%q: no state, want %+v", b, want)
		}
		return true
	}
	if err != nil || got.State != want.State || got.Message != want.Message || got.Progress != want.Progress {
		t.Errorf("%q: %+v, want %+v, %v", b, got, want, err)
	}
	return true
}

func TestReadPlain(t *testing.T) {
	for _, tt := range []struct {
		body string
		read bool
	}{
		{`{"result":"pending"}`, true},
		{` {	"result" : "completed" ,` + "\r\n" + `"progress" : 0.25 } `, true},
		{`{"result":"error","message":"no speech","progress":-0}`, true},
		{`{"result":"pending","result":"error"}`, true},
		{`{"result":"strange"}`, true},
		{`{"result":""}`, true},
		{`{"message":"x"}`, true},
		{`{"result":"pending","id":"j","n":12,"of":-10.50}`, true},

		{`{"RESULT":"pending"}`, false}, // encoding/json takes it for the same name
		{`{"reſult":"pending"}`, false},
		{`{"Progress":1,"result":"pending"}`, false},
		{`{"Message":"x","result":"pending"}`, false},
		{`{"result":"pending","progress":1e-1}`, false},
		{`{"result":"pending","progress":"x"}`, false},
		{`{"result":"pending","message":1}`, false},
		{`{"result":1}`, false},
		{`{"result":null}`, false},
		{`{"result":"pending","data":{}}`, false},
		{`{"result":"pending","data":[1]}`, false},
		{`{"result":"pend\u0069ng"}`, false},
		{`{"result":"pending","message":"é"}`, false},
		{"{\"result\":\"pending\",\"message\":\"\x7f\"}", false},
		{"{\"result\":\"pending\",\"message\":\"\n\"}", false},
		{`{"result":"pending","progress":` + strings.Repeat("9", 400) + `}`, false},
		{`{"result":"pending","progress":01}`, false},
		{`{"result":"pending","progress":1.}`, false},
		{`{"result":"pending","progress":.5}`, false},
		{`{"result":"pending","progress":-}`, false},
		{`{"result":"pending",}`, false},
		{`{"result":"pending"}}`, false},
		{`{"result":"pending"} x`, false},
		{`{"result":"pending" "n":1}`, false},
		{`{"result" "pending"}`, false},
		{`{"result":"pending"`, false},
		{`{"result":"pend`, false},
		{`{"result":"pending","n":"1}`, false},
		{`{"result":`, false},
		{`{}`, false},
		{`[]`, false},
		{``, false},
	} {
		if read := checkPlain(t, []byte(tt.body)); read != tt.read {
			t.Errorf("%q: read %v, want %v", tt.body, read, tt.read)
		}
	}
}

func TestReadPlainAllocatesNothing(t *testing.T) {
	body := []byte(`{"result":"pending","message":"","progress":0.5}`)
	if n := testing.AllocsPerRun(100, func() { readPlain(body) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzReadPlain(f *testing.F) {
	for _, s := range []string{`{"result":"pending"}`, `{"result":"error","message":"x","progress":-0.5}`, `{"Result":"pending","n":1}`, `{"result":"pending","progress":00}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkPlain(t, b) })
}
