// Package simserver is a simulated translation backend for tests.
//
// It keeps jobs that take some time, reports over HTTP how far they are, and
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
//	POST /jobs         →  201 {"id":"job-1"}, or as described below under Submitting
//
// The id is one path segment, percent-encoded: the job "a/b" is at /status/a%2Fb.
// The body of POST /jobs is optional, and so is each of its members:
//
//	{"id":"mine", "duration":"90s", "fail":false, "message":"…", "result":{"video_url":"…"}}
//
// The duration is a string for [time.ParseDuration] or a number of seconds.
//
// # HeyGen's API, version 3
//
// As far as waiting for a translation needs it, at the same time and for the same jobs:
//
//	GET  /v3/video-translations/{id}      →  200 {"data":{"id":"job-1","status":"running","video_url":null,"failure_message":null,…}}
//	GET  /v3/video-translations/statuses?video_translation_ids=a,b
//	                                      →  200 {"data":[{"video_id":"a","status":"processing","error":null},…],"has_more":false,"next_token":null}
//	POST /v3/video-translations           →  200 {"data":{"video_translation_ids":["job-1"]}}
//
// The states are pending (for the first tenth of the duration), running, completed and
// failed; in a bulk answer queued, processing, completed, failed and not_found. A
// completed job has a video_url, by [WithLateResult] some time later. A bulk request names up
// to 100 ids, none with a comma in it, and brings no results; [WithBulkPage] spreads it
// over pages, of which the next is asked for with token=…. It counts as one
// request, under [Stats.Bulk], and as one more of [Server.Requests] for each job on its
// page. The body of the POST needs "video" and "output_languages", one job each, and may
// have "title", "callback_url" and "callback_id". Errors are
// {"error":{"code","message","param","doc_url"}}, and each answer has an X-Request-Id.
//
// # Submitting
//
// A submission by either API may carry an Idempotency-Key of 1 to 255 characters out of A-Z,
// a-z, 0-9, "_", "-", ":" and ".". For 24 hours another one with the same key, on the same
// path, creates nothing and is answered as the first one was, whatever its body; while the
// first one is being carried out ([WithSubmitTime]) it is refused by 409,
// "request_in_progress". A submission that was refused leaves its key unused.
// [WithJobLimit] and [WithCredit] refuse by 429 and 402. Faults meet submissions only where
// [Faults.Match] includes them.
//
// # Results
//
// [WithDownloads] makes the results files that can be downloaded, from another host, with
// Range, and from addresses that expire.
//
// # Webhooks
//
// [WithWebhook] has the server announce each job that ends, as HeyGen does with an
// endpoint that is registered: a POST with the headers Heygen-Signature, the HMAC-SHA256 of the body in lower-case hexadecimal,
// Heygen-Timestamp and Heygen-Event-Id, and the body
//
//	{"event_type":"video_translate.success","event_data":{"video_translate_id":"job-1","url":"…"}}
//	{"event_type":"video_translate.fail","event_data":{"video_translate_id":"job-1","message":"translation failed"}}
//
// with "output_language" and "callback_id" where the job was submitted with them. A job
// submitted with a callback_url is announced there instead, by the same body without the
// three headers: those deliveries are not signed.
//
// It can deliver over the network or straight to a handler, and on demand it loses
// deliveries, sends them twice or late, and repeats for some time those that got no 2xx. Each job under way then costs a timer, and
// none a goroutine.
//
//	sim := simserver.StartInMemory(t, simserver.WithWebhook(simserver.Webhook{Handler: mux, URL: "http://me.invalid/hook", Secret: "whsec", Loss: 0.02}))
//
// # Determinism
//
// What becomes of a job (its duration, whether it fails, whether its delivery is lost)
// follows from the seed and the job's id alone. Ids that the server makes are job-1,
// job-2 and so on, so the k-th of them meets the same fate in every run. Which fault
// meets a request follows from the seed, the job's id and how many requests asked for
// that job before, however the requests for different jobs interleave.
package simserver
