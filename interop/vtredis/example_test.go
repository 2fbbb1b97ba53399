package vtredis_test

import (
	"context"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtredis"
)

// A replica of a service that shares everything: the ends of jobs, what is learnt
// about their durations, and the webhook that only one replica gets.
func Example() {
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS_ADDR"), ContextTimeoutEnabled: true})
	hostname, _ := os.Hostname()

	learnt, err := vtredis.Load(ctx, rdb, "heygen:learnt", hostname, time.Second)
	if err != nil {
		log.Print(err) // it starts with what could be read
	}
	client, err := vtclient.New("https://api.heygen.com",
		vtclient.WithEndpoint(vtclient.HeyGenV3()),
		vtclient.WithHeader("X-Api-Key", os.Getenv("HEYGEN_API_KEY")),
		vtclient.WithPolling(learnt),
		vtclient.WithCache(vtredis.NewCache(rdb, "heygen:")))
	if err != nil {
		log.Fatal(err)
	}
	defer learnt.Save(ctx)

	if _, err := vtredis.Subscribe(ctx, rdb, "heygen:hints", client.Hint); err != nil {
		log.Print(err) // it polls
	}
	verify, err := vtclient.VerifyHeyGen(os.Getenv("HEYGEN_WEBHOOK_SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/webhooks/heygen", &vtclient.Webhook{
		Verify: verify,
		Hint: func(jobID string) {
			if err := vtredis.Publish(ctx, rdb, "heygen:hints", jobID); err != nil {
				client.Hint(jobID)
			}
		},
	})
	// ... client.Wait as usual
}
