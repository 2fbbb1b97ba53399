package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

const serveSynopsis = `
vt serve [flags]

Runs a simulated translation backend until it is interrupted. The first line
of its output is "listening on http://ADDRESS", the last one counts what it
served. Jobs are created with POST /jobs or, with -auto-create, by asking for them:

	vt serve -auto-create -duration lognormal:20s,0.5 -fault 503:5%,drop:5%
	vt wait -url http://127.0.0.1:8088 holiday wedding

Jobs can be asked for by the plain API and by HeyGen's, version 3, whatever -api
says. With -api heygen it prints how to submit jobs and ask for them with curl, the
key comes from HEYGEN_API_KEY, and -webhook says where to tell of jobs that end, signed
with HEYGEN_WEBHOOK_SECRET. A job submitted with a callback_url is told of there:

	export HEYGEN_WEBHOOK_SECRET=for-this-test
	vt serve -api heygen -auto-create -webhook http://127.0.0.1:8089/ -webhook-loss 10%
	vt wait -api heygen -url http://127.0.0.1:8088 -listen 127.0.0.1:8089 holiday wedding
`

func (e *env) serve(ctx context.Context, args []string) int {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	sim, chosen := simulation{}, apiFlag{plainAPI}
	_ = sim.duration.Set("10s")
	addr := fs.String("addr", "127.0.0.1:8088", "the `address` to listen on; port 0 takes a free one")
	verbose := fs.Bool("v", false, "log each request on standard error")
	fs.Var(&chosen, "api", "the API to show the use of: a `name`, plain or heygen")
	webhook := fs.String("webhook", "", "tell this `URL` of each job that ends; with -api heygen")
	sim.addFlags(fs, "")
	fs.BoolVar(&sim.autoCreate, "auto-create", false, "create a job when it is first asked for, in place of a 404")
	fs.Var(&sim.epoch, "epoch", "when the default job and those of -auto-create began: a `time` like\n2026-01-02T15:04:05Z (default: when the server starts, and when they are\nfirst asked for). With the same seed and epoch a server that is started\nagain goes on where the last one ended")
	rest, code, ok := e.parse(fs, serveSynopsis, args)
	if !ok {
		return code
	}
	if len(rest) > 0 {
		return e.errorf("serve: %q: takes no arguments", rest[0])
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if name := misplaced(given, chosen.api, "webhook"); name != "" {
		return e.errorf("serve: -%s is for -api heygen", name)
	}
	if given["webhook-loss"] && *webhook == "" {
		return e.errorf("serve: -webhook-loss says how many webhooks get lost, and without -webhook there are none")
	}
	key := e.getenv(chosen.keyVar)
	opts, err := sim.options(key)
	if err != nil {
		return e.errorf("serve: %v", err)
	}
	if *webhook != "" {
		hook := simserver.Webhook{URL: *webhook, Secret: e.getenv(heygenSecretVar), Loss: float64(sim.loss)}
		if hook.Secret == "" {
			return e.errorf("serve: -webhook: %s", noSecret)
		}
		if u, err := url.Parse(hook.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return e.errorf("serve: -webhook %q is not a URL like http://127.0.0.1:8089/", hook.URL)
		}
		opts = append(opts, simserver.WithWebhook(hook))
	}
	if *verbose {
		opts = append(opts, simserver.WithOnExchange(e.logExchange()))
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *addr)
	if err != nil {
		return e.errorf("serve: %v", err)
	}
	backend := simserver.New(opts...)
	server := &http.Server{Handler: backend, ErrorLog: log.New(cleanWriter{e}, "", 0), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		backend.Close() // first, so that requests held in silence end
		server.Close()
	})
	defer stop()
	fmt.Fprintf(e.stdout, "listening on http://%s\n", listener.Addr())
	if chosen.api == heygenAPI {
		fmt.Fprint(e.stdout, heygenExamples("http://"+listener.Addr().String(), key != "", sim.autoCreate))
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		backend.Close()
		return e.errorf("serve: %v", err)
	}
	backend.Close() // waits until nothing is served any more
	fmt.Fprintln(e.stdout, served(backend.Stats()))
	return exitOK
}

// heygenExamples are commands that show the use of HeyGen's API at a URL. The key stays
// in the environment, and off curl's command line.
func heygenExamples(base string, withKey, anyID bool) string {
	curl := "curl -s"
	if withKey {
		curl = `printf 'x-api-key: %s\n' "$` + heygenAPI.keyVar + `" | curl -s -H @-`
	}
	id, also := "job-1", "job-2"
	if anyID {
		id, also = "holiday", "wedding"
	}
	at := base + submitPath
	return "submit: " + curl + ` -H 'Content-Type: application/json' -d '{"video":{"type":"url","url":"https://example.com/film.mp4"},"output_languages":["German","French"]}' ` + at + "\n" +
		"status: " + curl + " " + at + "/" + id + "\n" +
		"bulk:   " + curl + " '" + at + "/statuses?video_translation_ids=" + id + "," + also + "'\n" +
		"wait:   vt wait -api heygen -url " + base + " " + id + " " + also + "\n"
}

// logExchange returns a function that logs one request a line.
func (e *env) logExchange() func(simserver.Exchange) {
	var mu sync.Mutex
	return func(x simserver.Exchange) {
		what := fmt.Sprint(x.Code)
		if x.Code == 0 {
			what = "no answer"
		}
		if x.Fault != "" {
			what += " (fault: " + string(x.Fault) + ")"
		}
		line := clean(fmt.Sprintf("%s %s %s: %s in %v", x.Time.Format("15:04:05.000"), x.Method, x.Path, what, x.Took.Round(time.Microsecond)))
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(e.stderr, line)
	}
}

// served says in one line what a backend has done.
func served(s simserver.Stats) string {
	line := fmt.Sprintf("stopped after %s: %d pending, %d completed, %d failed, %d jobs created",
		count(s.Requests, "request"), s.Pending, s.Completed, s.Failed, s.Created)
	for _, n := range []struct {
		n    int
		what string
	}{{s.Bulk, "bulk"}, {s.NotFound, "not found"}, {s.Unauthorized, "unauthorized"}, {s.Invalid, "invalid"}} {
		if n.n > 0 {
			line += fmt.Sprintf(", %d %s", n.n, n.what)
		}
	}
	for _, n := range []struct {
		n    int
		what string
	}{{s.Webhooks, "sent"}, {s.WebhooksLost, "lost"}, {s.WebhooksRefused, "refused or not delivered"}} {
		if n.n > 0 {
			line += fmt.Sprintf(", %s %s", count(n.n, "webhook"), n.what)
		}
	}
	var faults []string
	for _, f := range slices.Sorted(maps.Keys(s.Faults)) {
		faults = append(faults, fmt.Sprintf("%s ×%d", f, s.Faults[f]))
	}
	if len(faults) > 0 {
		line += "; faults: " + strings.Join(faults, ", ")
	}
	return line
}

// A cleanWriter escapes what net/http logs: it may quote what a client sent.
type cleanWriter struct{ e *env }

func (w cleanWriter) Write(p []byte) (int, error) {
	fmt.Fprintln(w.e.stderr, clean(strings.TrimRight(string(p), "\n")))
	return len(p), nil
}
