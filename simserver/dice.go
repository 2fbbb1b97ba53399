package simserver

import "math/rand/v2"

// Dice is the seed of all random numbers of a server.
type dice uint64

// rand returns the generator for one purpose, one job and the n-th time.
func (d dice) rand(purpose string, key uint64, n int) *rand.Rand {
	return rand.New(rand.NewPCG(mix(uint64(d)^hash(purpose)), mix(key+mix(uint64(n)))))
}

// hash is 64-bit FNV-1a.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix is the output function of SplitMix64: neighbouring numbers come out unrelated.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
