// This program is what a user's might look like. The checks build it in a module
// of its own, outside the repository, so that it sees what a user sees: the
// exported names, no requirement beyond the standard library, no internal package.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"time"

	"github.com/vtclient/vtclient"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var asked atomic.Int32
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/status/bad":
			fmt.Fprint(w, `{"result":"error","message":"no audio"}`)
		case asked.Add(1) < 3:
			fmt.Fprint(w, `{"result":"pending"}`)
		default:
			fmt.Fprint(w, `{"result":"completed"}`)
		}
	}))
	defer backend.Close()

	client, err := vtclient.New(backend.URL, vtclient.WithPolling(vtclient.Constant(200*time.Millisecond)))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()

	status, err := client.Wait(ctx, "good")
	if err != nil {
		return err
	}
	fmt.Println("good:", status.State)

	for status, err := range client.WaitAll(ctx, vtclient.Jobs("bad")) {
		if !errors.Is(err, vtclient.ErrJobFailed) {
			return fmt.Errorf("bad: %w", err)
		}
		fmt.Println("bad:", status.State, status.Message)
	}
	return nil
}
