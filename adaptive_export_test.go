package vtclient

import (
	"math/rand/v2"
	"sync"
)

// Seed makes all that is random in a follow from seed. To be called before a is
// used.
func (a *Adaptive) Seed(seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	a.explore.Store(r.Uint32())
	var mu sync.Mutex
	a.chance = func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64()
	}
}
