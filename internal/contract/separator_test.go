package contract_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
)

// An id that the backend would split goes into no shared request, whichever way the
// separator is written: as it is, escaped once or more, or overlapping with the id's end.
func TestNoIDIsSplitByTheSeparator(t *testing.T) {
	const comma = ","
	for _, tt := range []struct {
		separator string
		at        string // where the backend splits what it has unescaped
		unescapes int
		single    []string // ids that may stand in no shared request
		shared    []string // those that may
	}{
		{"", comma, 1, []string{"x,y", ",", "x,"}, []string{"x%2Cy", "x;y", "x y"}},
		{"%2C", comma, 1, []string{"x,y", "x%2Cy", ",y"}, []string{"x.y", "x%2cy", "x+y"}},
		{"%2c", comma, 1, []string{"x,y", ",,"}, []string{"x-y"}},
		{"%252C", comma, 2, []string{"x,y", "x%2Cy", "x%252Cy"}, []string{"xy"}},
		{"+", " ", 1, []string{"x y", "x+y"}, []string{"x,y"}},
		{"%20", " ", 1, []string{"x y"}, []string{"x,y", "x+y"}},
		{"%7C%7C", "||", 1, []string{"x||y", "x|", "|"}, []string{"x|y", "|x"}},
		{",,", ",,", 1, []string{"x,,y", "x,"}, []string{"x,y"}},
	} {
		var mu sync.Mutex
		asked := map[string]bool{} // by shared requests, as the backend reads them
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/all" {
				json.NewEncoder(w).Encode(map[string]string{"result": "completed"})
				return
			}
			query := strings.TrimPrefix(r.URL.RawQuery, "ids=")
			for range tt.unescapes {
				query, _ = url.QueryUnescape(query)
			}
			ids := strings.Split(query, tt.at)
			mu.Lock()
			defer mu.Unlock()
			for _, id := range ids {
				asked[id] = true
			}
			json.NewEncoder(w).Encode(ids)
		}))
		bulk := vtclient.Bulk{Path: "/all?ids={ids}", Separator: tt.separator, Decode: func(a vtclient.Answer) (all []vtclient.Status, next string, err error) {
			var ids []string
			err = json.Unmarshal(a.Body, &ids)
			for _, id := range ids {
				all = append(all, vtclient.Status{JobID: id, State: vtclient.StateCompleted, Body: []byte(`{}`)})
			}
			return all, "", err
		}}
		c, err := vtclient.New(s.URL, vtclient.WithEndpoint(vtclient.Endpoint{Path: "/one?id={id}", Bulk: bulk}), vtclient.WithCache(nil))
		if err != nil {
			t.Fatal(err)
		}
		given := map[string]bool{"a": true, "b": true}
		ids := []string{"a", "b"}
		for _, id := range append(tt.single, tt.shared...) {
			given[id] = true
			ids = append(ids, id)
		}
		ended := 0
		for st, err := range c.WaitAll(t.Context(), vtclient.Jobs(ids...), vtclient.StartedAt(time.Now().Add(-24*time.Hour))) {
			if err != nil || st.State != vtclient.StateCompleted {
				t.Errorf("separator %q: %q: %v", tt.separator, st.JobID, err)
			}
			ended++
		}
		s.Close()
		if ended != len(ids) {
			t.Errorf("separator %q: %d of %d jobs ended", tt.separator, ended, len(ids))
		}
		for id := range asked {
			if !given[id] {
				t.Errorf("separator %q: the backend was asked for %q, which is no job", tt.separator, id)
			}
		}
		if tt.unescapes == 1 {
			for _, id := range append(tt.shared, "a", "b") {
				if !asked[id] {
					t.Errorf("separator %q: %q was in no shared request", tt.separator, id)
				}
			}
		}
		for _, id := range tt.single {
			if asked[id] {
				t.Errorf("separator %q: %q was in a shared request", tt.separator, id)
			}
		}
	}
}
