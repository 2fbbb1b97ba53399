// Package contract holds the library's promises as tests that see it from outside:
// through its exported names, over scripted servers, real loopback HTTP and virtual
// time. Read as a specification, in this order:
//
//	options, endpoint      what New refuses; how a job id becomes an address; how an answer is read
//	status, caching        one look: tries, shared calls; answers that are kept, and what is kept alive
//	contact                trouble before the first readable answer, and after it
//	wait, missing_result   how a wait goes on and ends; completed, and the result not there yet
//	polls, together        one poll for many waits; WaitAll; waits of one job that overlap
//	fairness               no caller, and no job, is starved by another
//	atmost, overdue        bounds on jobs under way; jobs that take too long
//	bulk, heygen           jobs that share requests
//	submit, restart        jobs that are created; jobs and learners that outlive the process
//	times, learning        the backend's own times; what a learner gets; what hints save
//	exchanges, admission   one exchange: its permit, its place, its timeout, its error
//	http, connections      what is sent, and what transports and bodies do; a connection is not the backend
//	fetch                  the other backend: a function of the caller's
//	faults, pauses         which trouble is tried again; how long a server may ask to wait
//	redirects, hostile     what a server can try, and secrets
//	errors, trace          what a failure, a trace and a log line hold
//	edges, stress          the extremes, and everything at once
//	stages                 data flows one way
//
// The backends, breakers and traces that they share are in helpers. Tests that look inside
// one file stand beside that file in the root.
package contract
