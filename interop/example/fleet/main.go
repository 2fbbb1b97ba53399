// Fleet shows a queue of waits that outlives its replicas: three processes wait for 300 jobs of a
// simulated backend through a redis-server that it starts itself, and one of them is killed.
//
//	go run -C interop ./example/fleet
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtredis"
	"github.com/vtclient/vtclient/simserver"
)

const (
	jobs = 300
	idle = 3 * time.Second // after so long without a renewal, a replica's claims pass to others

	ready = "ready" // the first line of a replica
)

func main() {
	log.SetFlags(0)
	logging.Disable()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := fleet
	if len(os.Args) == 3 {
		run = func(ctx context.Context) error { return replica(ctx, os.Args[1], os.Args[2]) }
	}
	if err := run(ctx); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

// replica is one process of a service. It prints a line when it is ready, and the id of each job that it handles.
func replica(ctx context.Context, redisAddr, backend string) error {
	q, closeRedis, err := openQueue(redisAddr)
	if err != nil {
		return err
	}
	defer closeRedis()
	client, err := vtclient.New(backend, vtclient.WithEndpoint(vtclient.HeyGenV3()))
	if err != nil {
		return err
	}
	fmt.Println(ready)
	return q.Run(ctx, client, func(_ context.Context, st vtclient.Status, err error) error {
		if err != nil {
			return err
		}
		_, err = fmt.Println(st.JobID) // here a service would fetch the video
		return err
	})
}

func openQueue(addr string) (q *vtredis.Queue, closeRedis func() error, err error) {
	rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	q, err = vtredis.NewQueue(rdb, "fleet", vtredis.QueueOptions{AtMost: jobs / 2, Idle: idle})
	return q, rdb.Close, err
}

// A story is what happens, line by line.
type story struct {
	began   time.Time
	ready   chan string // names of replicas
	mu      sync.Mutex
	handled map[string]int // by replica
	times   map[string]int // by job
}

func (s *story) log(format string, args ...any) {
	fmt.Printf("[%5.1fs] %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

func (s *story) counts() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("a %d, b %d, c %d", s.handled["a"], s.handled["b"], s.handled["c"])
}

// count reads what a replica prints.
func (s *story) count(name string, out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == ready {
			s.ready <- name
			continue
		}
		s.mu.Lock()
		s.handled[name]++
		s.times[lines.Text()]++
		s.mu.Unlock()
	}
}

func fleet(ctx context.Context) error {
	s := &story{began: time.Now(), ready: make(chan string, 3), handled: map[string]int{}, times: map[string]int{}}
	addr, stopRedis, err := startRedis(ctx)
	if err != nil {
		return err
	}
	defer stopRedis()
	sim := simserver.Start(nil, simserver.WithDurations(simserver.Uniform(2*time.Second, 14*time.Second)))
	defer sim.Close()
	q, closeRedis, err := openQueue(addr)
	if err != nil {
		return err
	}
	defer closeRedis()
	s.log("redis-server at %s, simulated backend at %s", addr, sim.URL())

	replicas := map[string]*exec.Cmd{}
	for _, name := range []string{"a", "b", "c"} {
		cmd, err := s.startReplica(ctx, name, addr, sim.URL())
		if err != nil {
			return err
		}
		replicas[name] = cmd
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
	}
	for range replicas {
		select {
		case <-s.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for range jobs { // a service adds a job when it has submitted it
		if err := q.Add(ctx, vtclient.Job{ID: sim.Create(simserver.Job{}), StartedAt: time.Now()}); err != nil {
			return err
		}
	}
	s.log("%d jobs of 2 to 14 s are in the queue", jobs)

	if err := s.watch(ctx, q, func() { replicas["b"].Process.Kill() }); err != nil {
		return err
	}
	return s.sum(sim)
}

// watch describes the queue from time to time until it is empty. After 4 s it kills replica b.
func (s *story) watch(ctx context.Context, q *vtredis.Queue, kill func()) error {
	killed := false
	for tick := time.NewTicker(1500 * time.Millisecond); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		st, err := q.Stats(ctx)
		if err != nil {
			return err
		}
		s.log("%3d unfinished, claimed by %d replicas; %2d taken over; handled: %s", st.Jobs, st.Replicas, st.Takeovers, s.counts())
		if st.Jobs == 0 {
			return nil
		}
		if !killed && time.Since(s.began) > 4*time.Second {
			killed = true
			kill()
			s.log("replica b is killed; its claims lapse after %v", idle)
		}
	}
}

// sum ends the story.
func (s *story) sum(sim *simserver.Server) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	twice := 0
	for _, n := range s.times {
		twice += n - 1
	}
	s.log("%d jobs handled, %d of them twice; %d requests, of which %d asked for many jobs, and the others for a result",
		len(s.times), twice, sim.TotalRequests(), sim.Stats().Bulk)
	if len(s.times) != jobs {
		return fmt.Errorf("%d jobs were handled, want %d", len(s.times), jobs)
	}
	return nil
}

func (s *story) startReplica(ctx context.Context, name, redisAddr, backend string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, redisAddr, backend)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go s.count(name, out)
	s.log("replica %s runs as process %d", name, cmd.Process.Pid)
	return cmd, nil
}

// startRedis starts a redis-server on a port and in a folder of its own.
func startRedis(ctx context.Context) (addr string, stop func(), err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", nil, errors.New("no redis-server in the path: install it with the system's package manager")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	addr = l.Addr().String()
	l.Close()
	dir, err := os.MkdirTemp("", "fleet")
	if err != nil {
		return "", nil, err
	}
	_, port, _ := strings.Cut(addr, ":")
	cmd := exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "yes")
	if err := cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	stop = func() { cmd.Process.Kill(); cmd.Wait(); os.RemoveAll(dir) }
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	for range 500 {
		if rdb.Ping(ctx).Err() == nil {
			return addr, stop, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return "", nil, errors.New("redis-server does not answer")
}
