package main

import (
	"cmp"
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
served. At / it has a page that shows each job and request as they happen. Jobs
are created with POST /jobs or, with -auto-create, by asking for them:

	vt serve -auto-create -duration lognormal:20s,0.5 -fault 503:5%,drop:5%
	vt wait -url http://127.0.0.1:8088 holiday wedding

Jobs can be asked for by the plain API and by HeyGen's, version 3, whatever -api
is; it picks the commands that are printed, for creating jobs and for asking.
With -api heygen the key comes from HEYGEN_API_KEY, and -webhook is where the
ends of jobs are announced, signed with HEYGEN_WEBHOOK_SECRET. A job submitted
with a callback_url is announced there:

	export HEYGEN_WEBHOOK_SECRET=for-this-test
	vt serve -api heygen -auto-create -webhook http://127.0.0.1:8089/ \
	    -webhook-loss 10%
	vt wait -api heygen -url http://127.0.0.1:8088 -listen 127.0.0.1:8089 \
	    holiday wedding

With -api heygen there are results to download, from a port of their own, and
submissions are limited as HeyGen limits them; -results and -submissions change
that:

	vt serve -api heygen -results size=5MB,expires=10s -submissions limit=3
	vt wait -api heygen -url http://127.0.0.1:8088 -download . \
	    -submit https://example.com/film.mp4 -language German,French
`

type serveFlags struct {
	api     apiFlag
	addr    string
	webhook string
	verbose bool
	sim     simulation

	files       simserver.Downloads
	submissions submissions
}

func (f *serveFlags) set() *flag.FlagSet {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.StringVar(&f.addr, "addr", "127.0.0.1:8088", "the `address` to listen on; port 0 takes a free one")
	fs.BoolVar(&f.verbose, "v", false, "log each request on standard error")
	fs.Var(&f.api, "api", "the API of the commands that are printed: a `name`, plain or heygen")
	fs.StringVar(&f.webhook, "webhook", "", "announce each job that ends at this `URL`; with -api heygen")
	f.sim.addFlags(fs, "")
	fs.Var(results(&f.files), "results", "the files that completed jobs have: a `list` such as size=5MB,expires=30s,rate=1MB,cut=20%, where rate is bytes a second of each download, and cut the share of them that break off; with -api heygen (default size=1MB)")
	fs.Var(f.submissions.flag(), "submissions", "limits on submissions: a `list` such as limit=10,pause=5s,credit=100,time=300ms, where limit is how many submitted jobs may be under way, pause the Retry-After of those refused, credit how many can be paid for, and time how long a submission takes; with -api heygen (default limit=10,pause=5s)")
	fs.BoolVar(&f.sim.autoCreate, "auto-create", false, "create a job when it is first asked for, in place of a 404")
	fs.Var(&f.sim.epoch, "epoch", "when the default job and those of -auto-create began: a `time` like 2026-01-02T15:04:05Z (default: when the server starts, and when they are first asked for). With the same seed and epoch a server that is started again goes on where the last one ended")
	return fs
}

func (e *env) serve(ctx context.Context, args []string) int {
	f := &serveFlags{api: apiFlag{plainAPI}, submissions: submissions{limit: 10, pause: 5 * time.Second, credit: -1}}
	_ = f.sim.duration.Set("10s")
	fs := f.set()
	rest, code, ok := e.parse(fs, serveSynopsis, args)
	if !ok {
		return code
	}
	if len(rest) > 0 {
		return e.errorf("serve: %q: takes no arguments", rest[0])
	}
	opts, err := f.options(given(fs), e.getenv)
	if err != nil {
		return e.errorf("serve: %v", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.addr)
	if err != nil {
		return e.errorf("serve: %v", err)
	}
	var files net.Listener
	if f.api.api == heygenAPI {
		host, _, _ := net.SplitHostPort(listener.Addr().String())
		if files, err = (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, "0")); err != nil {
			return e.errorf("serve: %v", err)
		}
		f.files.URL = "http://" + files.Addr().String()
		opts = append(opts, simserver.WithDownloads(f.files))
	}
	if err := e.serveOn(ctx, listener, files, f, opts); err != nil {
		return e.errorf("serve: %v", err)
	}
	return exitOK
}

// options checks the flags and turns them into those of the backend.
func (f *serveFlags) options(given map[string]bool, getenv func(string) string) ([]simserver.Option, error) {
	if name := misplaced(given, f.api.api, "webhook", "results", "submissions"); name != "" {
		return nil, fmt.Errorf("-%s is for -api heygen", name)
	}
	if given["webhook-loss"] && f.webhook == "" {
		return nil, errors.New("-webhook-loss is the share of webhooks that get lost, and without -webhook there are none")
	}
	opts, err := f.sim.options(getenv(f.api.keyVar))
	if f.api.api == heygenAPI {
		f.files.Size = cmp.Or(f.files.Size, 1e6)
		opts = append(opts, f.submissions.options()...)
	}
	if err != nil || f.webhook == "" {
		return opts, err
	}
	hook := simserver.Webhook{URL: f.webhook, Secret: getenv(heygenSecretVar), Loss: float64(f.sim.loss)}
	if hook.Secret == "" {
		return nil, fmt.Errorf("-webhook: %w", unset(heygenSecretVar, whatSecret))
	}
	if u, err := url.Parse(hook.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("-webhook %q is not a URL like http://127.0.0.1:8089/", hook.URL)
	}
	return append(opts, simserver.WithWebhook(hook)), nil
}

// serveOn serves the backend and its page, and its files if there is a listener for them,
// until ctx is done.
func (e *env) serveOn(ctx context.Context, listener, files net.Listener, f *serveFlags, opts []simserver.Option) error {
	var backend *simserver.Server
	page := &timeline{}
	also := func(simserver.Exchange) {}
	if f.verbose {
		also = e.logExchange()
	}
	backend = simserver.New(append(opts, page.watch(func() *simserver.Server { return backend }, also)...)...)
	// An http.ServeMux would redirect to cleaned paths, which change ids.
	either := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.EscapedPath(); p == "/" || p == "/events" {
			page.ServeHTTP(w, r)
			return
		}
		backend.ServeHTTP(w, r)
	})
	server := &http.Server{Handler: either, ErrorLog: log.New(cleanWriter{e}, "", 0), ReadHeaderTimeout: 10 * time.Second}
	if files != nil {
		host := &http.Server{Handler: backend.Downloads(), ErrorLog: server.ErrorLog, ReadHeaderTimeout: server.ReadHeaderTimeout}
		go host.Serve(files)
		defer host.Close()
	}
	stop := context.AfterFunc(ctx, func() {
		backend.Close() // first, so that requests held in silence end
		server.Close()
	})
	defer stop()
	base := "http://" + listener.Addr().String()
	fmt.Fprintf(e.stdout, "listening on %s\npage:   %s/\n", base, base)
	if files != nil {
		fmt.Fprintf(e.stdout, "files:  %s/\n", f.files.URL)
	}
	fmt.Fprint(e.stdout, f.api.examples(base, e.getenv(f.api.keyVar) != "", f.sim.autoCreate))
	err := server.Serve(listener)
	backend.Close() // waits until nothing is served any more
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	fmt.Fprintln(e.stdout, served(backend.Stats()))
	return nil
}

// examples are commands that show the use of the API at a URL. The key stays in the
// environment, and off curl's command line.
func (a *api) examples(base string, withKey, anyID bool) string {
	curl := "curl -s"
	if withKey {
		header := "x-api-key: %s"
		if a == plainAPI {
			header = "Authorization: Bearer %s"
		}
		curl = `printf '` + header + `\n' "$` + a.keyVar + `" | curl -s -H @-`
	}
	id, also := "job-1", "job-2"
	if anyID {
		id, also = "holiday", "wedding"
	}
	wait := "wait:   vt wait -url " + base + " " + id + " " + also + "\n"
	if a == plainAPI {
		return "create: " + curl + ` -d '{"duration":"20s"}' ` + base + "/jobs\n" +
			"status: " + curl + " " + base + "/status/" + id + "\n" + wait
	}
	at := base + submitPath
	return "submit: " + curl + ` -H 'Content-Type: application/json' -d '{"video":{"type":"url","url":"https://example.com/film.mp4"},"output_languages":["German","French"]}' ` + at + "\n" +
		"status: " + curl + " " + at + "/" + id + "\n" +
		"bulk:   " + curl + " '" + at + "/statuses?video_translation_ids=" + id + "," + also + "'\n" +
		strings.Replace(wait, "vt wait", "vt wait -api heygen", 1)
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

// served is one line about what a backend has done.
func served(s simserver.Stats) string {
	line := fmt.Sprintf("stopped after %s: %d pending, %d completed, %d failed, %d jobs created",
		count(s.Requests, "request"), s.Pending, s.Completed, s.Failed, s.Created)
	for _, n := range []struct {
		n    int
		what string
	}{{s.Bulk, "bulk"}, {s.NotFound, "not found"}, {s.Unauthorized, "unauthorized"}, {s.Invalid, "invalid"}, {s.Refused, "refused"}, {s.Replayed, "replayed by key"}, {s.Downloads, "downloads"}, {s.DownloadsRefused, "downloads refused"}} {
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
