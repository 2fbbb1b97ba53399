package vtclient_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// A server that takes the backend's webhook, and a wait that ends by it. The
// polls alone would notice the end an hour later.
func ExampleWebhook() {
	const secret = "whsec_from_your_configuration"
	mux := http.NewServeMux()
	server := httptest.NewServer(mux) // yours
	defer server.Close()
	sim := simserver.Start(nil, simserver.WithWebhook(simserver.Webhook{URL: server.URL + "/webhooks/heygen", Secret: secret}))
	defer sim.Close()

	client, err := vtclient.New(sim.URL(), vtclient.WithPolling(vtclient.Constant(time.Hour)))
	if err != nil {
		log.Fatal(err)
	}
	verify, err := vtclient.VerifyHeyGen(secret)
	if err != nil {
		log.Fatal(err) // an empty secret
	}
	mux.Handle("/webhooks/heygen", &vtclient.Webhook{
		Verify:  verify,
		Hint:    client.Hint, // or a function that tells every replica
		OnError: func(r *http.Request, err error) { log.Print(r.RemoteAddr, ": ", err) },
	})

	id := sim.Create(simserver.Job{Duration: 50 * time.Millisecond})
	status, err := client.Wait(context.Background(), id)
	fmt.Println(status.State, err)
	// Output: completed <nil>
}
