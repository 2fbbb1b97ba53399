// Package storm holds tests alone: many waits at once against a simulated backend
// that runs in a process of its own, is killed and comes back on its port, and does to the
// requests whatever networks and backends do to them. Each fault that the server made is
// matched with what the client reported of it.
//
//	go test ./internal/storm                                              # 500 jobs, some seconds
//	VTCLIENT_STORM=10000 go test -run TestStorm -v -timeout 15m ./internal/storm
//
// The second is the long form: the client with its default settings, an outage of a
// minute, and a report.
package storm
