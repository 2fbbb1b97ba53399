package benchmarks

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

var (
	// rotate and reps are how a run makes what disturbs the machine disturb all alike:
	// the contenders of a benchmark take turns, for a short while each, and over the
	// rounds of a run no place in the order is always the same one's.
	rotate = flag.Int("rotate", 0, "begin each benchmark with this contender, modulo their number")
	reps   = flag.Int("reps", 1, "how many turns each contender has")
)

// A contender is one way to do the work of a benchmark.
type contender struct {
	name string
	run  func(b *testing.B)
}

// compare runs the contenders in turns, under names like by=vtclient.
func compare(b *testing.B, cs ...contender) {
	b.Helper()
	for rep := range *reps {
		for i := range cs {
			c := cs[(i+rep+*rotate)%len(cs)]
			b.Run("by="+c.name, c.run) // package testing appends a #01 to the second, and so on
		}
	}
}

// size is n, or a small number where the benchmarks only have to be executed.
func size(n, short int) int {
	if testing.Short() {
		return short
	}
	return n
}

// TestEveryBenchmark executes each benchmark once at a small size, in a process of
// its own: what does not run any more is to be noticed, and a figure from a shared
// machine would say nothing.
func TestEveryBenchmark(t *testing.T) {
	if flag.Lookup("test.bench").Value.String() != "" {
		t.Skip("the benchmarks are being run already")
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^$", "-test.bench", ".", "-test.benchtime", "1x", "-test.short", "-test.timeout", "5m")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "/by="); n < 50 {
		t.Errorf("only %d benchmarks were executed:\n%s", n, out)
	}
	t.Logf("%s", out)
}

// A stub is a transport that gives every request the same answer, without a network.
type stub struct {
	code int
	body string
}

const pendingBody = `{"result":"pending","message":"","progress":0.5}`

func (s stub) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: http.StatusText(s.code), StatusCode: s.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(strings.NewReader(s.body)),
		ContentLength: int64(len(s.body)),
		Request:       r,
	}, nil
}

// A watching stub listens whether the request is given up, as every transport of a network
// does, and has to be configured for it.
type watching struct{ stub }

func (w watching) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	default:
		return w.stub.RoundTrip(r)
	}
}

// live returns the bytes that are live now: objects, and the stacks of goroutines.
// The second collection takes what the first one left in pools.
func live() float64 {
	heap, stacks := liveParts()
	return heap + stacks
}

func liveParts() (heap, stacks float64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc), float64(m.StackInuse)
}

// names returns n different ids of the same length.
func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("job-%08d", i)
	}
	return out
}

// stride goes through n keys, each in its turn and in no order that a processor
// could foresee: 7919 is prime, and no n here is a multiple of it.
func stride(i, n int) int { return (i + 7919) % n }
