package vtclient

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryCacheValidate(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cache *MemoryCache[int]
		want  string // in the error; empty: none
	}{
		{"one", NewMemoryCache[int](1), ""},
		{"huge", NewMemoryCache[int](math.MaxInt), ""},
		{"zero", NewMemoryCache[int](0), "capacity of 0"},
		{"negative", NewMemoryCache[int](-5), "capacity of -5"},
		{"zero value", new(MemoryCache[int]), "capacity of 0"},
		{"nil", nil, "nil *MemoryCache"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cache.validate()
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// A cache with room for many, in which few live at a time, does not fill up with
// the dead: Set alone, without Len, keeps them to about as many as the living.
func TestMemoryCacheReclaimsWhatExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const living = 1000
		c := NewMemoryCache[int](1_000_000)
		for i := range 20 * living {
			c.Set(t.Context(), strconv.Itoa(i), i, living*time.Millisecond)
			time.Sleep(time.Millisecond)
			if c.count > 3*living {
				t.Fatalf("%d entries are held, of which %d live", c.count, living)
			}
		}
	})
}

// One round clears every mark, and the eviction then takes the first it cleared.
func TestMemoryCacheEvictsWhenAllWereAskedFor(t *testing.T) {
	c := NewMemoryCache[int](3)
	for i := range 3 {
		c.Set(t.Context(), strconv.Itoa(i), i, time.Hour)
	}
	for e := c.oldest; e != nil; e = e.newer {
		e.visited.Store(1)
	}
	c.Set(t.Context(), "new", 1, time.Hour)
	if _, ok, _ := c.Get(t.Context(), "0"); ok {
		t.Error("the first that the hand came to is still there")
	}
	if c.count != 3 {
		t.Errorf("%d entries", c.count)
	}
}
