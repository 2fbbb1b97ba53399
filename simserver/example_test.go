package simserver_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

// The server is a handler like any other: here it is part of a larger one.
func ExampleNew() {
	sim := simserver.New(simserver.WithSeed(1))
	defer sim.Close()
	sim.Create(simserver.Job{ID: "intro", Duration: -1}) // done already

	mux := http.NewServeMux()
	mux.Handle("/translate/", http.StripPrefix("/translate", sim))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	srv := &http.Server{Handler: mux}
	go srv.Serve(ln)
	defer srv.Close()

	res, err := http.Get("http://" + ln.Addr().String() + "/translate/status/intro")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	fmt.Print(string(body))
	// Output:
	// {"result":"completed","video_url":"https://videos.sim.invalid/intro.mp4"}
}

// In a test, pass its t and leave Close to it; inside synctest.Test, sleeping takes no
// time.
func ExampleStartInMemory() {
	sim := simserver.StartInMemory(nil)
	defer sim.Close()
	id := sim.Create(simserver.Job{Duration: simserver.Never})

	show := func() {
		res, err := sim.HTTPClient().Get(sim.URL() + "/status/" + id)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		fmt.Print(res.StatusCode, " ", string(body))
	}
	show()
	sim.Fail(id, "the video has no sound")
	show()
	fmt.Println(sim.Requests(id), "requests")
	// Output:
	// 200 {"result":"pending"}
	// 200 {"result":"error","message":"the video has no sound"}
	// 2 requests
}

// Two requests fail, then the server is well again.
func ExampleServer_SetFaults() {
	sim := simserver.StartInMemory(nil)
	defer sim.Close()
	sim.SetFaults(simserver.Faults{
		Status:     map[int]float64{503: 1},
		RetryAfter: 20 * time.Second,
		Limit:      2,
	})
	for range 3 {
		res, err := sim.HTTPClient().Get(sim.URL() + "/status")
		if err != nil {
			fmt.Println(err)
			return
		}
		res.Body.Close()
		fmt.Printf("%d %q\n", res.StatusCode, res.Header.Get("Retry-After"))
	}
	// Output:
	// 503 "20"
	// 503 "20"
	// 200 ""
}

// The same seed gives the same jobs.
func ExampleWithSeed() {
	sim := simserver.New(
		simserver.WithSeed(42),
		simserver.WithDurations(simserver.LogNormal(10*time.Minute, 0.5)),
		simserver.WithFailureRate(0.25),
	)
	for range 4 {
		job, _ := sim.Job(sim.Create(simserver.Job{}))
		fmt.Println(job.ID, job.Duration.Round(time.Second), job.Fail)
	}
	// Output:
	// job-1 4m59s false
	// job-2 6m24s false
	// job-3 9m8s false
	// job-4 6m45s true
}
