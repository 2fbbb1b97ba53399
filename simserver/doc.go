// Package simserver is a simulated translation backend for tests.
//
// It keeps jobs that take some time, tells over HTTP how far they are, and
// misbehaves on demand as real backends and the networks before them do: error
// codes, Retry-After, latency, connections dropped before or in the middle of an
// answer, silence, garbage, outages. All of it follows from a seed, so a test that
// failed once fails again.
//
// A test of a program that waits for jobs needs ten lines, and with
// testing/synctest it needs no real time however long the jobs are:
//
//	func TestWaitsForTheJob(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			sim := simserver.StartInMemory(t, simserver.WithSeed(1))
//			id := sim.Create(simserver.Job{Duration: 3 * time.Hour})
//			sim.SetFaults(simserver.Faults{Status: map[int]float64{503: 0.2}})
//			err := waitForVideo(sim.HTTPClient(), sim.URL(), id) // the code under test
//			if err != nil || sim.Requests(id) > 50 {
//				t.Fatalf("err = %v after %d requests", err, sim.Requests(id))
//			}
//		})
//	}
//
// # Three ways to run it
//
// [Start] listens on a loopback port. [StartInMemory] serves real HTTP, with
// net/http on both sides, over pipes in memory: that is what runs inside a synctest
// bubble, where a network socket cannot. Both end with the test. [New] gives a plain
// [http.Handler] to mount anywhere.
//
// # The plain API
//
//	GET  /status/{id}  →  200 {"result":"pending","progress":0.37}
//	                      200 {"result":"completed","video_url":"…"}
//	                      200 {"result":"error","message":"translation failed"}
//	                      404 {"error":"no job \"x\""}
//	GET  /status       →  the same for the default job, whose id is empty
//	POST /jobs         →  201 {"id":"job-1"}
//
// The id is one path segment, percent-encoded: the job "a/b" is at /status/a%2Fb.
// The body of POST /jobs is optional, and so is each of its members:
//
//	{"id":"mine", "duration":"90s", "fail":false, "message":"…", "result":{"video_url":"…"}}
//
// The duration is a string for [time.ParseDuration] or a number of seconds.
//
// # Determinism
//
// What becomes of a job (its duration, whether it fails) follows from the seed
// and the job's id alone. Ids that the server makes are job-1, job-2 and so on, so
// the k-th of them meets the same fate in every run. Which fault meets a request
// follows from the seed, the job's id and how many requests asked for that job
// before, however the requests for different jobs interleave.
package simserver
