package vtclient

import (
	"fmt"
	"time"
)

// PollOf lets the tests see the poll of a job, nil if there is none, and when its
// last exchange began.
func (c *Client) PollOf(id string) (p any, started time.Duration) {
	c.poller.mu.Lock()
	defer c.poller.mu.Unlock()
	if p := c.poller.polls[id]; p != nil {
		return p, time.Duration(p.started)
	}
	return nil, 0
}

// Leftovers says what a client that nobody uses still holds, and must not.
func (c *Client) Leftovers() error {
	e := &c.poller
	e.mu.Lock()
	defer e.mu.Unlock()
	got := []any{len(e.polls), len(e.heap), len(e.ready), e.workers, e.timer != nil, len(e.order), len(e.lessons), len(c.gate), c.flights.Len()}
	if text := fmt.Sprint(got...); text != fmt.Sprint(0, 0, 0, 0, false, 0, 0, 0, 0) {
		return fmt.Errorf("polls, heap, ready, workers, timer, order, lessons, gate, flights: %v", got)
	}
	return nil
}
