package vtredis_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtredis"
)

// learntText is the state of a replica that has learnt from some jobs.
func learntText(t testing.TB, jobs int, seed uint64) string {
	t.Helper()
	a, r := vtclient.NewAdaptive(time.Second), rand.New(rand.NewPCG(seed, 2))
	for range jobs {
		d := time.Duration(60e9 * math.Exp(r.NormFloat64()))
		a.Learn(vtclient.Completion{PendingAt: d * 9 / 10, DoneBy: d, Hinted: r.IntN(3) > 0})
	}
	text, err := a.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Load makes the same of one hash, in whatever order its fields were written and come.
func TestLoadOfOneHashIsAlwaysTheSame(t *testing.T) {
	s := startRedis(t)
	rdb := s.client(t)
	ctx := t.Context()
	fields := map[string]string{}
	var names []string
	for i := range 9 {
		name := fmt.Sprint("replica ", i)
		names = append(names, name)
		fields[name] = learntText(t, 20+90*i, uint64(i))
	}
	want := ""
	for round := range 6 {
		hash := fmt.Sprint("h", round)
		rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			rdb.HSet(ctx, hash, name, fields[name])
		}
		l, err := vtredis.Load(ctx, rdb, hash, "one more", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%+v", l.Explain(vtclient.Attempt{}))
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("the same fields in another order: %s, want %s", got, want)
		}
		if err := l.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%+v", l.Explain(vtclient.Attempt{})); got != want {
			t.Errorf("refreshed: %s, want %s", got, want)
		}
	}
}

// However many replicas a hash has the states of, 16 of them count: the caller's own, those
// that saved last, and where no times are known the first by name. A Save removes the others.
func TestReplicasThatAreGoneAreForgotten(t *testing.T) {
	s := startRedis(t)
	rdb := s.client(t)
	ctx := t.Context()
	jobs := func(l *vtredis.Learnt) int { return l.Explain(vtclient.Attempt{}).Jobs }
	load := func(hash, name string) *vtredis.Learnt {
		t.Helper()
		l, err := vtredis.Load(ctx, rdb, hash, name, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}

	t.Run("restarts under new names", func(t *testing.T) {
		for i := range 60 {
			l := load("restarts", fmt.Sprint("pod-", i))
			if n := jobs(l); n > 16 {
				t.Fatalf("restart %d has %d jobs, one of each replica", i, n)
			}
			l.Learn(vtclient.Completion{PendingAt: 59 * time.Second, DoneBy: time.Minute})
			if err := l.Save(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if n := rdb.HLen(ctx, "restarts").Val(); n != 16 {
			t.Errorf("%d replicas are kept, want 16", n)
		}
	})

	t.Run("a hash of another program", func(t *testing.T) {
		for i := range 300 {
			rdb.HSet(ctx, "other", fmt.Sprintf("old %03d", i), learntText(t, 1, uint64(i)))
		}
		rdb.HSet(ctx, "other", "zz", learntText(t, 30, 1))
		if n := jobs(load("other", "new")); n != 16 {
			t.Errorf("%d jobs of 300 replicas are known, want those of 16", n)
		}
		own := load("other", "zz") // its own state counts, though it is the last by name
		if n := jobs(own); n < 30 || n > 45 {
			t.Errorf("%d jobs are known, want 30 of its own and those of 15 others", n)
		}
		if err := own.Save(ctx); err != nil {
			t.Fatal(err)
		}
		if names := rdb.HKeys(ctx, "other").Val(); !slices.Equal(names, []string{"zz"}) {
			t.Errorf("%d replicas are left of 300 of which no time is known, want the one that saved", len(names))
		}
	})
}

// BenchmarkLoad measures a Load of a hash that holds the states of 300 replicas.
func BenchmarkLoad(b *testing.B) {
	s := startRedis(b)
	rdb := s.client(b)
	for i := range 300 {
		rdb.HSet(b.Context(), "h", fmt.Sprint(i), learntText(b, 500, uint64(i%16)))
	}
	for b.Loop() {
		if _, err := vtredis.Load(b.Context(), rdb, "h", "new", time.Second); err != nil {
			b.Fatal(err)
		}
	}
}
