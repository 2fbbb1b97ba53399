// Package contract holds the library's promises as tests that see it from outside:
// through its exported names, over scripted servers, real loopback HTTP and virtual
// time. Read as a specification, in this order:
//
//	options, endpoint     what New takes and refuses; how a job id becomes an address
//	status, caching       one look: tries, shared calls, answers that are kept
//	wait, polls, together how a wait goes on and ends; many waits; waits that meet
//	fairness              no caller, and no job, is starved by another
//	bulk, heygen          jobs that share requests
//	missing_result        completed, and the result not there yet
//	learning, hints       what a learner gets from the client; what a webhook saves
//	exchanges, admission  one exchange: its permit, its place, its timeout, its error
//	http, fetch           the two backends: a server, and a function of the caller's
//	faults, retryafter    which trouble is tried again, and when
//	redirects, hostile    what a server can try, and secrets
//	errors, trace         what a failure and a log line hold
//	edges, stress         the extremes, and everything at once
//	stages                data flows one way
//
// Tests that look inside one file stand beside that file in the root.
package contract
