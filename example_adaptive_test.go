package vtclient_test

import (
	"fmt"
	"log"
	"time"

	"github.com/vtclient/vtclient"
)

// A cadence that has seen a hundred jobs of one to two minutes knows when to
// ask, and says so.
func ExampleAdaptive() {
	cadence := vtclient.NewAdaptive(5 * time.Second) // what a request is worth
	for i := range 100 {
		duration := time.Minute + time.Duration(i*37%60)*time.Second
		cadence.Learn(vtclient.Completion{PendingAt: duration - 2*time.Second, DoneBy: duration})
	}

	forecast := cadence.Explain(vtclient.Attempt{}) // a job begins now
	fmt.Println("half of the jobs are over after about", forecast.Median.Round(30*time.Second))
	fmt.Println("the first poll is made after about", forecast.Polls[0].Round(20*time.Second))

	// Now and then a poll is made earlier than that, to notice when jobs have
	// become shorter.
	delay, _ := cadence.Next(vtclient.Attempt{})
	fmt.Println("and never at once:", delay > 30*time.Second)
	// Output:
	// half of the jobs are over after about 1m30s
	// the first poll is made after about 1m20s
	// and never at once: true
}

// What one process has learnt serves the next, and replicas can pool what they
// know.
func ExampleAdaptive_Merge() {
	before := vtclient.NewAdaptive(time.Second)
	for range 20 {
		before.Learn(vtclient.Completion{PendingAt: 58 * time.Second, DoneBy: time.Minute})
	}
	saved, err := before.MarshalText()
	if err != nil {
		log.Fatal(err)
	}

	restored, mine := vtclient.NewAdaptive(time.Second), vtclient.NewAdaptive(time.Second)
	if err := restored.UnmarshalText(saved); err != nil {
		log.Fatal(err)
	}
	mine.Merge(restored)
	fmt.Println("jobs remembered:", mine.Explain(vtclient.Attempt{}).Jobs)
	// Output: jobs remembered: 20
}
