package storm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
)

// A clientConfig is what a client process waits for.
type clientConfig struct {
	URL, Token string
	IDs        []string
	StartedAt  time.Time
	Halt       int           // after so many results it takes no more, and waits to be killed; 0: never
	Tolerance  time.Duration // of outages; 0: the default
}

// A result is what a client process prints of a job that has ended.
type result struct {
	Status vtclient.Status
	Failed bool
	Error  string
}

// waitFor is the client process. It writes down each result as it comes.
func waitFor(cfg clientConfig) error {
	go func() { // the test is gone
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	if cfg.Tolerance == 0 {
		cfg.Tolerance = 5 * time.Minute
	}
	client, err := vtclient.New(cfg.URL,
		vtclient.WithOutageTolerance(cfg.Tolerance),
		vtclient.WithHeader("X-Api-Key", cfg.Token),
		vtclient.WithTimeout(time.Second),
		vtclient.WithPolling(vtclient.NewAdaptive(50*time.Millisecond)),
		vtclient.WithRetry(vtclient.Exponential{Base: 100 * time.Millisecond, Max: time.Second, Jitter: 0.5}),
		vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{
			OpenPeriod: 250 * time.Millisecond, MaxOpenPeriod: time.Second,
		})))
	if err != nil {
		return err
	}
	reported := 0
	for st, err := range client.WaitAll(context.Background(), vtclient.Jobs(cfg.IDs...), vtclient.StartedAt(cfg.StartedAt)) {
		r := result{Status: st}
		if err != nil {
			r.Failed, r.Error = errors.Is(err, vtclient.ErrJobFailed), err.Error()
		}
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := fmt.Printf("%s\n", text); err != nil {
			return err
		}
		if reported++; reported == cfg.Halt {
			select {}
		}
	}
	return nil
}

// A process that waits for jobs is killed in the middle, twice, and started again for the jobs
// whose results it has not printed; the second time, the server is killed too. No result is
// lost, and none is wrong.
func TestClientKilled(t *testing.T) {
	processes(t)
	began := time.Now()
	cfg := serverConfig{
		Addr: "127.0.0.1:0", Seed: 2, Epoch: time.Now().Round(0), Short: time.Second, Long: 4 * time.Second,
		FailureRate: 0.2, Token: "storm-token", Storm: true, TooMany: 0.0005,
	}
	srv := startServer(t, cfg)
	var ids []string
	for i := range 300 {
		ids = append(ids, fmt.Sprintf("film-%d", i))
	}
	truth := cfg.truth(ids)
	results := make(map[string]result)
	for run := range 3 {
		var missing []string
		for _, id := range ids {
			if _, ok := results[id]; !ok {
				missing = append(missing, id)
			}
		}
		// However slow this process is, it finds the other one alive.
		halt := len(ids) / 3
		if run == 2 {
			halt = 0
		}
		client := start(t, clientEnv, clientConfig{
			URL: srv.url(), Token: cfg.Token, IDs: missing, StartedAt: cfg.Epoch, Halt: halt,
		})
		take := func(line string) {
			var r result
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			id := r.Status.JobID
			if _, ok := results[id]; ok || !slices.Contains(missing, id) {
				t.Errorf("%s has ended again, or was not asked for", id)
			}
			results[id] = r
		}
		reported := 0
		for run == 2 || reported < len(ids)/4 {
			line, ok := client.line()
			if !ok {
				break
			}
			take(line)
			reported++
		}
		if run < 2 {
			_ = client.cmd.Process.Kill()
			for _, line := range client.rest() { // printed before it was killed
				take(line)
				reported++
			}
		}
		if client.rest(); (client.err == nil) != (run == 2) {
			t.Errorf("run %d: the client ended with %v", run+1, client.err)
		}
		t.Logf("run %d: %d jobs waited for, %d results, at %v", run+1, len(missing), reported, time.Since(began).Round(time.Millisecond))
		if run == 1 {
			srv.kill()
			srv = startServer(t, srv.cfg)
		}
	}
	if len(results) != len(ids) {
		t.Errorf("%d jobs have ended, want %d", len(results), len(ids))
	}
	for id, r := range results {
		var err error
		switch {
		case r.Failed:
			err = fmt.Errorf("%w: %s", vtclient.ErrJobFailed, r.Error)
		case r.Error != "":
			err = errors.New(r.Error)
		}
		if err := check(r.Status, err, truth[id]); err != nil {
			t.Error(err)
		}
	}
	srv.stop()
}
