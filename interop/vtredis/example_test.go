package vtredis_test

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
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

// A replica of a service whose waits outlive it. Where a job was submitted, the service
// calls Add.
func ExampleQueue_Run() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM) // leaves its jobs to others
	defer stop()
	rdb := redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS_ADDR"), ContextTimeoutEnabled: true})
	hostname, _ := os.Hostname()
	learnt, err := vtredis.Load(ctx, rdb, "heygen:learnt", hostname, time.Second)
	if err != nil {
		log.Print(err) // it starts with what could be read
	}
	pause := vtredis.NewPause(rdb, "heygen:pause", nil)
	client, err := vtclient.New("https://api.heygen.com",
		vtclient.WithEndpoint(vtclient.HeyGenV3()),
		vtclient.WithHeader("X-Api-Key", os.Getenv("HEYGEN_API_KEY")),
		vtclient.WithPolling(learnt),
		vtclient.WithLimiter(pause),
		vtclient.WithTrace(pause.Trace()))
	if err != nil {
		log.Fatal(err)
	}
	queue, err := vtredis.NewQueue(rdb, "heygen", vtredis.QueueOptions{
		Learnt:  learnt,
		OnError: func(err error) { log.Print(err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := queue.Add(ctx, vtclient.Job{ID: "tr_42", StartedAt: time.Now()}); err != nil {
		log.Print(err)
	}
	err = queue.Run(ctx, client, func(ctx context.Context, st vtclient.Status, err error) error {
		if errors.Is(err, vtclient.ErrOutage) {
			return err // nothing is known of the job's end: wait again
		}
		return store(ctx, st, err)
	})
	if ctx.Err() == nil {
		log.Fatal(err)
	}
}

// store stands for a service's database. It does nothing where the end is known already.
func store(context.Context, vtclient.Status, error) error { return nil }
