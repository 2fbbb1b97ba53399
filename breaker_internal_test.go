package vtclient

// Validate lets the tests see what New sees.
func (b *CircuitBreaker) Validate() error { return b.validate() }

// Counts429 lets the tests see what the client asks.
func (b *CircuitBreaker) Counts429() bool { return b.counts429() }
