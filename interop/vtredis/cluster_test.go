package vtredis_test

import (
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient/interop/vtredis"
	"github.com/vtclient/vtclient/simserver"
)

// A cluster refuses a script whose keys are in different slots: a queue, and what is learnt, work on one.
func TestQueueOnCluster(t *testing.T) {
	t.Parallel()
	bus, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(bus.Addr().String())
	bus.Close()
	s := startRedis(t, "--cluster-enabled", "yes", "--cluster-port", port)
	node := s.client(t)
	if err := node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	until(t, "the cluster is up", func() bool {
		return strings.Contains(node.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.addr}, ContextTimeoutEnabled: true})
	t.Cleanup(func() { rdb.Close() })
	learnt, err := vtredis.Load(t.Context(), rdb, "heygen:learnt", "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	sim := simserver.Start(t)
	for _, key := range []string{"heygen:acme", "odd{}key"} {
		q, err := vtredis.NewQueue(rdb, key, vtredis.QueueOptions{Learnt: learnt})
		if err != nil {
			t.Fatal(err)
		}
		done, removed := sim.Create(simserver.Job{Duration: simserver.Never}), sim.Create(simserver.Job{Duration: simserver.Never})
		add(t, q, named(done, removed)...)
		run := startService(t, q, sim, nil)
		until(t, "a poll", func() bool { return sim.Requests(done) > 0 })
		sim.Complete(done)
		q.Hint(done)
		run.await(t, 1)
		if err := q.Remove(t.Context(), removed); err != nil {
			t.Error(err)
		}
		until(t, "an empty queue", func() bool { return stats(t, q).Jobs == 0 })
		run.stop(t)
	}
	if n := rdb.HLen(t.Context(), "heygen:learnt").Val(); n != 1 {
		t.Errorf("%d replicas have saved", n)
	}
}
