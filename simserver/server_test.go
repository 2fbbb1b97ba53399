package simserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

func TestCloseUnderLoad(t *testing.T) {
	load := func(t *testing.T, sim *simserver.Server) {
		sim.SetFaults(simserver.Faults{
			Silence: 0.2, Drip: 0.2, Drop: 0.1, Cut: 0.1, Reset: 0.1,
			DripEvery: 100 * time.Microsecond, Latency: time.Millisecond, Jitter: 2 * time.Millisecond,
		})
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				for {
					_, _, err := get(sim, fmt.Sprint("/status/", i))
					if errors.Is(err, syscall.ECONNREFUSED) {
						return // closed
					}
				}
			})
		}
		for sim.Stats().InFlight < 25 { // more and more are held in silence
			time.Sleep(time.Millisecond)
		}
		closed := make(chan struct{})
		go func() { sim.Close(); close(closed) }() // at the same time as:
		sim.Close()
		<-closed
		if n := sim.Stats().InFlight; n != 0 {
			t.Errorf("%d requests being served after Close", n)
		}
		wg.Wait()
	}
	// That the bubble ends shows that no goroutine is left.
	for range 20 {
		synctest.Test(t, func(t *testing.T) { load(t, simserver.StartInMemory(t, simserver.WithAutoCreate())) })
	}
	for range 5 {
		load(t, simserver.Start(t, simserver.WithAutoCreate()))
	}
	noGoroutines(t)
}

// noGoroutines waits until none is left of this package's or net/http's.
func noGoroutines(t *testing.T) {
	t.Helper()
	var left string
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(time.Millisecond) {
		left = ""
		buf := make([]byte, 4<<20)
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if (strings.Contains(g, "net/http.") || strings.Contains(g, "simserver.(")) && !strings.Contains(g, "testing.tRunner") {
				left += g + "\n\n"
			}
		}
		if left == "" {
			return
		}
	}
	t.Errorf("still running:\n%s", left)
}

func TestCloseAtOnce(t *testing.T) {
	for range 50 {
		sim := simserver.Start(nil)
		go get(sim, "/status")
		sim.Close()
		sim.Close()
		mem := simserver.StartInMemory(nil)
		go get(mem, "/status")
		mem.Close()
		for _, s := range []*simserver.Server{sim, mem} {
			if _, _, err := get(s, "/status"); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("after Close: %v", err)
			}
		}
	}
	noGoroutines(t)
}

func TestNewIsAPlainHandler(t *testing.T) {
	sim := simserver.New()
	sim.Create(simserver.Job{ID: "a/b", Duration: -1})
	if sim.URL() != "" {
		t.Errorf("URL %q", sim.URL())
	}
	if _, err := sim.HTTPClient().Get("http://sim.invalid/status"); err == nil || !strings.Contains(err.Error(), "does not listen") {
		t.Errorf("err = %v", err)
	}
	front := httptest.NewServer(http.StripPrefix("/v1", sim))
	defer front.Close()
	res, err := http.Get(front.URL + "/v1/status/a%2Fb")
	if err != nil || res.StatusCode != 200 {
		t.Errorf("%+v %v", res, err)
	}
	res.Body.Close()

	// Close ends what is held in silence, and nothing is served any more.
	sim.SetFaults(simserver.Faults{Silence: 1})
	errs := make(chan error)
	go func() {
		_, err := http.Get(front.URL + "/v1/status")
		errs <- err
	}()
	for sim.Stats().InFlight == 0 {
		time.Sleep(time.Millisecond)
	}
	sim.Close()
	if err := <-errs; err == nil {
		t.Error("no error")
	}
	if _, err := http.Get(front.URL + "/v1/status"); !errors.Is(err, io.EOF) {
		t.Errorf("after Close: %v", err)
	}
}

func TestConnectionsAreReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		dials := 0
		client := &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials++
				return sim.DialContext(ctx, network, addr)
			},
		}}
		for range 100 {
			res, err := client.Get("http://any.host.at.all/status")
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		if dials != 1 {
			t.Errorf("%d connections", dials)
		}
	})
}

func TestOnExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var seen []string
		sim := simserver.StartInMemory(t, simserver.WithOnExchange(func(x simserver.Exchange) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprintf("%s %s %q %d %s %v", x.Method, x.Path, x.JobIDs, x.Code, x.Fault, x.Took))
			if !x.Time.Add(x.Took).Equal(time.Now()) {
				t.Errorf("%v", x.Time)
			}
			if x.Header.Get("User-Agent") == "" {
				t.Errorf("headers: %v", x.Header)
			}
		}))
		get(sim, "/status/a%2Fb")
		post(sim, "")
		sim.SetFaults(simserver.Faults{Drop: 1, Latency: time.Second, Limit: 1})
		post(sim, "")
		client := &http.Client{Transport: &http.Transport{DialContext: sim.DialContext}} // its connection is fresh
		client.Get(sim.URL() + "/status")
		client.CloseIdleConnections()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		want := `GET /status/a%2Fb ["a/b"] 404  0s
POST /jobs [] 201  0s
POST /jobs [] 201  0s
GET /status [""] 0 drop 1s`
		if got := strings.Join(seen, "\n"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestPeaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithFaults(simserver.Faults{Latency: 100 * time.Millisecond}))
		burst := func(n int) {
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() { get(sim, "/status") })
			}
			wg.Wait()
			synctest.Wait()
		}
		burst(5)
		burst(7)
		time.Sleep(time.Second)
		burst(3)
		if s := sim.Stats(); s.PeakInFlight != 7 || s.PeakPerSecond != 12 || s.Requests != 15 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
		sim.ResetStats()
		burst(2)
		if s := sim.Stats(); s.PeakInFlight != 2 || s.PeakPerSecond != 2 || s.Requests != 2 || s.Faults == nil || sim.Requests("") != 17 {
			t.Errorf("%+v, %d", s, sim.Requests(""))
		}
	})
}

// tb is a TB of the caller's own.
type tb struct {
	cleanups []func()
	helper   int
}

func (b *tb) Helper()               { b.helper++ }
func (b *tb) Cleanup(f func())      { b.cleanups = append(b.cleanups, f) }
func (b *tb) Fatalf(string, ...any) {}

func TestAnyTBWillDo(t *testing.T) {
	for _, start := range []func(simserver.TB, ...simserver.Option) *simserver.Server{simserver.Start, simserver.StartInMemory} {
		b := new(tb)
		sim := start(b, simserver.WithDefaultJob(simserver.Job{Duration: simserver.Never}))
		if len(b.cleanups) != 1 || b.helper == 0 {
			t.Errorf("%+v", b)
		}
		expect(t, sim, "/status", 200, `{"result":"pending"}`)
		b.cleanups[0]()
		if _, _, err := get(sim, "/status"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("after the cleanup: %v", err)
		}
	}
}

// TestMemoryConnections checks the pipes by themselves: what net/http makes little use
// of, a caller's own protocol may.
func TestMemoryConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		dial := func() net.Conn {
			c, err := sim.DialContext(t.Context(), "tcp", "anywhere")
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		c := dial()
		if c.LocalAddr().Network() != "memory" || c.RemoteAddr().String() != "sim.invalid:80" {
			t.Errorf("%v, %v", c.LocalAddr(), c.RemoteAddr())
		}
		buf := make([]byte, 1000)
		began := time.Now()

		c.SetReadDeadline(began.Add(time.Second))
		c.SetReadDeadline(began.Add(2 * time.Second)) // in its place
		if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) { // it stays
			t.Errorf("%v", err)
		}
		c.SetReadDeadline(time.Time{})
		if n, err := c.Read(nil); n != 0 || err != nil {
			t.Errorf("empty read: %d %v", n, err)
		}

		// Writes wait once the buffer is full, until the reader takes some, the deadline
		// passes or one end is closed. The server reads no body it is not asked for.
		big := make([]byte, 1<<20)
		io.WriteString(c, "POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
		sim.SetFaults(simserver.Faults{})
		c.SetDeadline(time.Now().Add(time.Second))
		n, err := c.Write(big)
		if n == len(big) || err == nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		c.Close()
		if _, err := c.Write(big); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %v", err)
		}
		if _, err := c.Read(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Close: %v", err)
		}

		// A cancelled dial, and one to a server that is gone.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 100 {
			if c, err := sim.DialContext(ctx, "", ""); err == nil {
				c.Close() // it may win
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		}
		c = dial()
		sim.Close()
		if _, err := c.Read(buf); err != io.EOF {
			t.Errorf("read from a closed server: %v", err)
		}
		if _, err := c.Write(buf); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a closed server: %v", err)
		}
		c.Close()
	})
}
