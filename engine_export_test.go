package vtclient

import (
	"fmt"
	"time"
)

// PollOf lets the tests see the poll of a job, nil if there is none, and when its
// last exchange began.
func (c *Client) PollOf(id string) (p any, started time.Duration) {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if p := c.engine.polls.get(id); p != nil {
		return p, time.Duration(p.started)
	}
	return nil, 0
}

// Leftovers says what a client that nobody uses still holds, and must not.
func (c *Client) Leftovers() error {
	e := &c.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	got := []any{e.polls.n, len(e.agenda.heap), e.agenda.due(), e.underWay, e.timer != nil, len(e.completions.order), len(e.completions.ready), len(c.gate), c.flights.Len()}
	if text := fmt.Sprint(got...); text != fmt.Sprint(0, 0, false, 0, false, 0, 0, 0, 0) {
		return fmt.Errorf("polls, heap, due, under way, timer, order, completions, gate, flights: %v", got)
	}
	return nil
}
