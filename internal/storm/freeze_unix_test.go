//go:build unix

package storm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
)

// Property 55: a process that was stopped between two faults for longer than the outage
// tolerance goes on with its waits. It was not the backend that was away.
func TestClientFrozen(t *testing.T) {
	processes(t)
	const tolerance = time.Second
	var mu sync.Mutex
	requests, faults, thawed := 0, 0, false
	faulty := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		requests++
		switch {
		case requests == 1:
			fmt.Fprint(w, `{"result":"pending"}`)
		case !thawed || faults < 3:
			if faults++; faults == 2 {
				close(faulty)
			}
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			fmt.Fprint(w, `{"result":"completed"}`)
		}
	}))
	defer srv.Close()
	client := start(t, clientEnv, clientConfig{URL: srv.URL, Token: "storm-token", IDs: []string{"film"}, Tolerance: tolerance})
	select {
	case <-faulty:
	case <-time.After(patience):
		t.Fatal("the client makes no requests")
	}
	if err := client.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * tolerance) // nothing is waited for: this is the time that the process loses
	mu.Lock()
	thawed, faults = true, min(faults, 2)
	mu.Unlock()
	if err := client.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	line, _ := client.line()
	var r result
	if err := json.Unmarshal([]byte(line), &r); err != nil || r.Error != "" || r.Status.State != vtclient.StateCompleted {
		t.Errorf("%q: %v", line, err)
	}
}
