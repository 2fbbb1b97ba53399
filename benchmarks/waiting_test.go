package benchmarks

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/longrunning"
	lroauto "cloud.google.com/go/longrunning/autogen"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	azruntime "github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/aws/aws-sdk-go-v2/service/transcribe"
	"github.com/aws/aws-sdk-go-v2/service/transcribe/types"
	"github.com/cenkalti/backoff/v5"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/vtclient/vtclient"
)

var waiting = flag.String("waiting", "", "append the figures of TestWaitingCost to this `file`, as benchmark results")

// A law is a distribution of durations in seconds.
type law struct {
	name string
	cdf  func(x float64) float64
	draw func(r *rand.Rand) float64
}

func lognormal(median, sigma float64) law {
	return law{
		cdf:  func(x float64) float64 { return .5 * math.Erfc(-math.Log(x/median)/sigma/math.Sqrt2) },
		draw: func(r *rand.Rand) float64 { return median * math.Exp(sigma*r.NormFloat64()) },
	}
}

func uniform(a, b float64) law {
	return law{
		cdf:  func(x float64) float64 { return min(1, max(0, (x-a)/(b-a))) },
		draw: func(r *rand.Rand) float64 { return a + (b-a)*r.Float64() },
	}
}

func weibull(k, scale float64) law {
	return law{
		cdf:  func(x float64) float64 { return -math.Expm1(-math.Pow(x/scale, k)) },
		draw: func(r *rand.Rand) float64 { return scale * math.Pow(r.ExpFloat64(), 1/k) },
	}
}

func pareto(alpha, from float64) law {
	return law{
		cdf:  func(x float64) float64 { return 1 - math.Pow(max(1, x/from), -alpha) },
		draw: func(r *rand.Rand) float64 { return from * math.Exp(r.ExpFloat64()/alpha) },
	}
}

func either(p float64, a, b law) law {
	return law{
		cdf: func(x float64) float64 { return p*a.cdf(x) + (1-p)*b.cdf(x) },
		draw: func(r *rand.Rand) float64 {
			if r.Float64() < p {
				return a.draw(r)
			}
			return b.draw(r)
		},
	}
}

func (l law) named(name string) law { l.name = name; return l }

// laws are those on which the figures of Adaptive are taken in the root package.
func laws() []law {
	return []law{
		uniform(5, 30).named("uniform-5-30s"),
		uniform(60, 60.5).named("constant-60s"),
		lognormal(180, .3).named("lognormal-3min-0.3"),
		lognormal(180, 1).named("lognormal-3min-1"),
		weibull(1, 600).named("exponential-10min"),
		either(.6, lognormal(30, .2), lognormal(1200, .2)).named("bimodal-30s-20min"),
		pareto(1.5, 20).named("Pareto-1.5-20s"),
		weibull(3, 300).named("Weibull-3-5min"),
	}
}

func (l law) quantile(p float64) float64 {
	lo, hi := 1e-6, 1e9
	for range 90 {
		if m := math.Sqrt(lo * hi); l.cdf(m) < p {
			lo = m
		} else {
			hi = m
		}
	}
	return hi
}

// optimum is the least mean cost that ages to ask at can have with full knowledge of the law:
// dynamic programming over pairs of points of a grid. From the point i, with nothing left to
// pay once the job is over, the cost to go is
//
//	w(i) = c·(1-F(i)) + min over j > i of ( ∫ from i to j of (F(x)-F(i)) dx + w(j) )
func (l law) optimum(c float64) float64 {
	n := size(1000, 150)
	var t []float64
	for i := range n + 1 {
		t = append(t, l.quantile(min(max(float64(i)/float64(n), 1e-9), 1-1e-8)))
	}
	for i, lo, hi := 0, t[1], t[n]; i <= n; i++ {
		t = append(t, lo*math.Pow(hi/lo, float64(i)/float64(n)))
	}
	t = append(t, 0)
	slices.Sort(t)
	t = slices.Compact(t)
	m := len(t)
	f, area, w := make([]float64, m), make([]float64, m), make([]float64, m)
	for i := 1; i < m; i++ {
		f[i] = l.cdf(t[i])
		area[i] = area[i-1] + (t[i]-t[i-1])*(f[i]+f[i-1])/2
	}
	f[m-1] = 1
	for i := m - 2; i >= 0; i-- {
		best := math.Inf(1)
		for j := i + 1; j < m; j++ {
			delay := area[j] - area[i] - f[i]*(t[j]-t[i])
			if delay > best {
				break // and it only grows
			}
			best = min(best, delay+w[j])
		}
		w[i] = c*(1-f[i]) + best
	}
	return w[0]
}

// A job began when it was made and is over after its duration. ask is one request.
type job struct {
	id       string
	began    time.Time
	duration time.Duration
	requests int
	late     time.Duration // from the end to the request that found it; negative: not found yet
}

func (j *job) ask() (done bool) {
	j.requests++
	if age := time.Since(j.began); age >= j.duration {
		if j.late < 0 {
			j.late = age - j.duration
		}
		return true
	}
	return false
}

// A waiter waits for one job with the code of one library, at that library's defaults.
type waiter func(ctx context.Context, j *job) error

var errPending = errors.New("pending")

// peerWaiters are made inside the bubble whose time they use. Where a peer gives up after a
// while by itself, that is turned off.
func peerWaiters(t *testing.T) map[string]waiter {
	return map[string]waiter{
		"aws": func(ctx context.Context, j *job) error {
			w := transcribe.NewTranscriptionJobCompletedWaiter(awsJob{j})
			return w.Wait(ctx, &transcribe.GetTranscriptionJobInput{}, 10000*time.Hour)
		},
		"azcore": azureWait,
		"gax": func(ctx context.Context, j *job) error {
			// The connection is never made: the interceptor answers all calls.
			conn, err := grpc.NewClient("passthrough:///backend.invalid", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
					op := reply.(*longrunningpb.Operation)
					op.Name = j.id
					if j.ask() {
						empty, err := anypb.New(&emptypb.Empty{})
						if err != nil {
							return err
						}
						op.Done, op.Result = true, &longrunningpb.Operation_Response{Response: empty}
					}
					return nil
				}))
			if err != nil {
				return err
			}
			defer conn.Close()
			ops, err := lroauto.NewOperationsClient(ctx, option.WithGRPCConn(conn))
			if err != nil {
				return err
			}
			return longrunning.InternalNewOperation(ops, &longrunningpb.Operation{Name: j.id}).Wait(ctx, nil)
		},
		"cenkalti": func(ctx context.Context, j *job) error {
			_, err := backoff.Retry(ctx, func() (bool, error) {
				if !j.ask() {
					return false, errPending
				}
				return true, nil
			}, backoff.WithMaxElapsedTime(0))
			return err
		},
	}
}

type awsJob struct{ j *job }

func (a awsJob) GetTranscriptionJob(context.Context, *transcribe.GetTranscriptionJobInput, ...func(*transcribe.Options)) (*transcribe.GetTranscriptionJobOutput, error) {
	status := types.TranscriptionJobStatusInProgress
	if a.j.ask() {
		status = types.TranscriptionJobStatusCompleted
	}
	return &transcribe.GetTranscriptionJobOutput{TranscriptionJob: &types.TranscriptionJob{TranscriptionJobStatus: status}}, nil
}

type azureJob struct{ j *job }

func (a azureJob) Do(r *http.Request) (*http.Response, error) {
	body := `{"status":"InProgress"}`
	if a.j.ask() {
		body = `{"status":"Succeeded"}`
	}
	return azureAnswer(r, http.StatusOK, body), nil
}

func azureAnswer(r *http.Request, code int, body string) *http.Response {
	return &http.Response{StatusCode: code, Request: r, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

func azureWait(ctx context.Context, j *job) error {
	pl := azruntime.NewPipeline("benchmarks", "v0.0.0", azruntime.PipelineOptions{}, &policy.ClientOptions{Transport: azureJob{j}})
	// What the request that began the job was answered with.
	first := azureAnswer(&http.Request{Method: http.MethodPost, URL: &url.URL{Scheme: "https", Host: "backend.invalid", Path: "/jobs"}}, http.StatusAccepted, "")
	first.Header.Set("Operation-Location", "https://backend.invalid/operations/"+j.id)
	p, err := azruntime.NewPoller[struct{}](first, pl, nil)
	if err != nil {
		return err
	}
	_, err = p.PollUntilDone(ctx, nil)
	return err
}

// A toll is what waiting for jobs came to, in means.
type toll struct{ requests, late float64 }

func (t toll) cost(c float64) float64 { return c*t.requests + t.late }

func total(jobs []*job) (t toll) {
	for _, j := range jobs {
		t.requests += float64(j.requests)
		t.late += j.late.Seconds()
	}
	n := float64(len(jobs))
	return toll{t.requests / n, t.late / n}
}

func newJob(i int, seconds float64) *job {
	return &job{id: strconv.Itoa(i), began: time.Now(), duration: time.Duration(seconds * 1e9), late: -1}
}

// waitPeer waits for jobs with a peer's code, for all at once: nothing that it does
// for one has to do with another.
func waitPeer(t *testing.T, name string, durations []float64) (out toll) {
	synctest.Test(t, func(t *testing.T) {
		wait := peerWaiters(t)[name]
		jobs := make([]*job, len(durations))
		var wg sync.WaitGroup
		for i, s := range durations {
			jobs[i] = newJob(i, s)
			wg.Go(func() {
				if err := wait(t.Context(), jobs[i]); err != nil || jobs[i].late < 0 {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		wg.Wait()
		out = total(jobs)
	})
	return out
}

// waitOurs waits for jobs one after the other with a client of its own, whose cadence learns
// from each, and measures those after the first lessons. With started the client has the start
// of each job.
func waitOurs(t *testing.T, durations []float64, lessons int, c float64, started bool) (out toll) {
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Pointer[job]
		rt := roundTrip(func(r *http.Request) (*http.Response, error) {
			if now.Load().ask() {
				return completed.RoundTrip(r)
			}
			return pending.RoundTrip(r)
		})
		client, err := vtclient.New("http://backend.invalid", vtclient.WithHTTPClient(&http.Client{Transport: rt}),
			vtclient.WithPolling(vtclient.NewAdaptive(time.Duration(c*1e9))))
		if err != nil {
			t.Fatal(err)
		}
		var jobs []*job
		for i, s := range durations {
			j := newJob(i, s)
			now.Store(j)
			var opts []vtclient.WaitOption
			if started {
				opts = append(opts, vtclient.StartedAt(j.began))
			}
			if st, err := client.Wait(t.Context(), j.id, opts...); err != nil || st.State != vtclient.StateCompleted || j.late < 0 {
				t.Fatal(st, err)
			}
			if i >= lessons {
				jobs = append(jobs, j)
			}
		}
		out = total(jobs)
	})
	return out
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestWaitingCost is what waiting for a job costs: the requests, each worth so many seconds,
// and the seconds from the job's end to the request that finds it over. Each waiter is real
// code at its own defaults, in virtual time. All of them, vtclient's plain Wait too, ask at age
// 0; vtclient-started, which has the start of the job, does not. vtclient has learnt from 200
// jobs before. The figures are of the same durations for all, and the optimum is with a request
// at age 0 as well.
func TestWaitingCost(t *testing.T) {
	lessons, jobs := size(200, 20), size(400, 10)
	replicas := 6
	list := laws()
	if testing.Short() || *waiting == "" {
		lessons, jobs, replicas, list = 20, 10, 1, list[:3]
	}
	out := io.Discard
	if *waiting != "" {
		f, err := os.OpenFile(*waiting, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		out = f
	}
	for _, l := range list {
		best := map[float64]float64{.5: 0, 5: 0}
		for c := range best {
			best[c] = c + l.optimum(c)
		}
		for k := range replicas {
			r := rand.New(rand.NewPCG(uint64(k), 11))
			durations := make([]float64, lessons+jobs)
			for i := range durations {
				durations[i] = l.draw(r)
			}
			say := func(c float64, who string, v float64) {
				fmt.Fprintf(out, "BenchmarkWaiting/law=%s/cost=%v/by=%s 1 %.4f cost/job\n", l.name, c, who, v)
			}
			for _, name := range []string{"aws", "azcore", "gax", "cenkalti"} {
				toll := waitPeer(t, name, durations[lessons:])
				for _, c := range []float64{.5, 5} {
					say(c, name, toll.cost(c))
				}
			}
			for _, c := range []float64{.5, 5} {
				ours, started := waitOurs(t, durations, lessons, c, false), waitOurs(t, durations, lessons, c, true)
				say(c, "vtclient", ours.cost(c))
				say(c, "vtclient-started", started.cost(c))
				say(c, "optimum", best[c])
				if ours.requests < 1.5 || started.requests < 1 {
					t.Errorf("%s: %v and %v requests a job cannot be", l.name, ours.requests, started.requests)
				}
			}
		}
	}
}
