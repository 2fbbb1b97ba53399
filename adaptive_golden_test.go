package vtclient_test

import (
	"flag"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
)

var update = flag.Bool("update", false, "write testdata/adaptive.golden anew")

// histories are what an Adaptive may have behind it.
var histories = []struct {
	name  string
	cost  time.Duration
	learn func(a *vtclient.Adaptive, r *rand.Rand)
}{
	{"nothing", time.Second, func(*vtclient.Adaptive, *rand.Rand) {}},
	{"one job", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { cut(a, 3*time.Minute, 0) }},
	{"few jobs", 2 * time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { logNormal(a, r, 8, 0.3, 0) }},
	{"many jobs", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { logNormal(a, r, 250, 0.5, 0) }},
	{"more than are remembered", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { logNormal(a, r, 600, 0.2, 0) }},
	{"requests that cost much", time.Minute, func(a *vtclient.Adaptive, r *rand.Rand) { logNormal(a, r, 60, 0.5, 0) }},
	{"requests that cost little", 10 * time.Millisecond, func(a *vtclient.Adaptive, r *rand.Rand) { logNormal(a, r, 60, 0.5, 0) }},
	{"all the same", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for range 60 {
			cut(a, 2*time.Minute, 0)
		}
	}},
	{"two kinds", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for i := range 100 {
			cut(a, time.Duration(1+19*(i%2))*time.Minute+time.Duration(r.IntN(1000))*time.Millisecond, 0)
		}
	}},
	{"given up", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for range 60 {
			d := time.Duration(180e9 * math.Exp(0.5*r.NormFloat64()))
			if d > 4*time.Minute {
				a.Learn(vtclient.Completion{PendingAt: 4 * time.Minute})
			} else {
				cut(a, d, 0)
			}
		}
	}},
	{"faster since", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		logNormal(a, r, 100, 0.3, 0)
		for range 5 {
			cut(a, time.Duration(20e9*math.Exp(0.2*r.NormFloat64())), 0)
		}
	}},
	{"faster for good", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		logNormal(a, r, 100, 0.3, 0)
		for range 25 {
			cut(a, time.Duration(20e9*math.Exp(0.2*r.NormFloat64())), 0)
		}
	}},
	{"slower for good", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		logNormal(a, r, 100, 0.3, 0)
		for range 10 {
			cut(a, time.Duration(900e9*math.Exp(0.2*r.NormFloat64())), 0)
		}
	}},
	{"slower by and by", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for i := range 150 {
			cut(a, time.Duration(60e9*math.Exp(0.01*float64(i)+0.1*r.NormFloat64())), 0)
		}
	}},
	{"slower since", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		logNormal(a, r, 100, 0.3, 0)
		for range 2 {
			cut(a, time.Duration(900e9*math.Exp(0.2*r.NormFloat64())), 0)
		}
	}},
	{"estimates", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for range 60 {
			e := time.Duration(float64(time.Minute) * math.Exp(2*r.Float64()))
			cut(a, time.Duration(float64(e)*(1+0.2*r.NormFloat64())), e)
		}
	}},
	{"with and without estimates", 3 * time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		logNormal(a, r, 30, 0.5, 0)
		logNormal(a, r, 30, 0.3, 2*time.Minute)
	}},
	{"hints", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { hints(a, r, 80, 0.97) }},
	{"hints, some lost", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { hints(a, r, 80, 0.6) }},
	{"hints that ceased", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		hints(a, r, 60, 0.98)
		hints(a, r, 4, 0)
	}},
	{"hints that came back", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		hints(a, r, 60, 0.98)
		hints(a, r, 4, 0)
		hints(a, r, 2, 1)
	}},
	{"hints of the past alone", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { hints(a, r, 40, 1) }},
	{"hints for jobs with estimates", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for i := range 70 {
			e := time.Duration(float64(time.Minute) * math.Exp(2*r.Float64()))
			d := time.Duration(float64(e) * math.Exp(0.2*r.NormFloat64()))
			if i%10 == 0 {
				cut(a, d, e)
			} else {
				a.Learn(vtclient.Completion{PendingAt: d / 3, DoneBy: d, Expected: e, Hinted: true})
			}
		}
	}},
	{"estimates that were far too low", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		logNormal(a, r, 25, 0.2, time.Second)
		a.Learn(vtclient.Completion{PendingAt: time.Minute, Expected: time.Second})
		logNormal(a, r, 5, 0.2, 0)
	}},
	{"hardly any time, and years", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for range 12 {
			a.Learn(vtclient.Completion{DoneBy: 1})
			a.Learn(vtclient.Completion{PendingAt: 900 * time.Microsecond, DoneBy: 1100 * time.Microsecond})
			a.Learn(vtclient.Completion{PendingAt: 100 * 24 * time.Hour, DoneBy: 130 * 24 * time.Hour})
			a.Learn(vtclient.Completion{PendingAt: 10 * 365 * 24 * time.Hour})
			a.Learn(vtclient.Completion{PendingAt: time.Hour, DoneBy: time.Hour})
		}
	}},
	{"requests that cost next to nothing", 100 * time.Microsecond, func(a *vtclient.Adaptive, r *rand.Rand) {
		for range 30 {
			d := time.Duration(60e9 * math.Exp(0.3*r.NormFloat64()))
			a.Learn(vtclient.Completion{PendingAt: d - d/100, DoneBy: d})
		}
	}},
	{"requests that cost a day", 24 * time.Hour, func(a *vtclient.Adaptive, r *rand.Rand) { logNormal(a, r, 30, 0.3, 0) }},
	{"restored", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		b := vtclient.NewAdaptive(time.Minute)
		b.Seed(r.Uint64())
		logNormal(b, r, 90, 0.4, 0)
		logNormal(b, r, 40, 0.4, time.Minute)
		text, _ := b.MarshalText()
		if err := a.UnmarshalText(text); err != nil {
			panic(err)
		}
	}},
	{"merged", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		b := vtclient.NewAdaptive(time.Minute)
		b.Seed(r.Uint64())
		logNormal(b, r, 90, 0.2, 0)
		hints(a, r, 30, 0.8)
		a.Merge(b)
	}},
}

// cut teaches a the duration d as its own polls would have cut it.
func cut(a *vtclient.Adaptive, d, expected time.Duration) {
	at := vtclient.Attempt{Expected: expected}
	for {
		delay, _ := a.Next(at)
		if at.Number++; at.Elapsed+delay >= d {
			a.Learn(vtclient.Completion{PendingAt: at.PendingAt, DoneBy: at.Elapsed + delay, Expected: expected})
			return
		}
		at.Elapsed += delay
		at.PendingAt = at.Elapsed
	}
}

func logNormal(a *vtclient.Adaptive, r *rand.Rand, jobs int, sigma float64, expected time.Duration) {
	for range jobs {
		cut(a, time.Duration(180e9*math.Exp(sigma*r.NormFloat64())), expected)
	}
}

func hints(a *vtclient.Adaptive, r *rand.Rand, jobs int, share float64) {
	for range jobs {
		d := time.Duration(180e9 * math.Exp(0.3*r.NormFloat64()))
		if r.Float64() < share {
			a.Learn(vtclient.Completion{PendingAt: d / 2, DoneBy: d, Hinted: true})
		} else {
			cut(a, d, 0)
		}
	}
}

// What Adaptive makes of a history is what it has always made of it. Other tests
// say why it is good; this one makes sure that nobody changes it without noticing:
// a difference in the golden file is a change of behaviour, which CHANGELOG has to
// tell. Numbers may differ by what rounding makes of them on another architecture.
//
//	go test -run TestAdaptiveIsWhatItWas -update .
func TestAdaptiveIsWhatItWas(t *testing.T) {
	noRace(t)
	const file = "testdata/adaptive.golden"
	if *update {
		var all strings.Builder
		for i := range histories {
			all.WriteString(account(i))
		}
		if err := os.WriteFile(file, []byte(all.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	golden := "\n" + strings.ReplaceAll(string(text), "\r\n", "\n")
	parts := strings.Split(golden, "\n# ")[1:]
	if len(parts) != len(histories) {
		t.Fatalf("%d histories in %s, want %d", len(parts), file, len(histories))
	}
	for i, h := range histories {
		t.Run(h.name, func(t *testing.T) {
			got, want := strings.Split(strings.TrimSpace(account(i)), "\n"), strings.Split("# "+strings.TrimSpace(parts[i]), "\n")
			if len(got) != len(want) {
				t.Fatalf("%d lines, want %d", len(got), len(want))
			}
			differ := 0
			for j := range want {
				if sameNumbers(got[j], want[j]) {
					continue
				}
				if differ++; differ <= 3 {
					t.Errorf("line %d:\n%s\nwant\n%s", j+1, got[j], want[j])
				}
			}
			if differ > 3 {
				t.Errorf("%d lines differ, of %d", differ, len(want))
			}
		})
	}
}

// account is what the golden file holds of a history.
func account(i int) string {
	h := histories[i]
	seed := uint64(crc32.ChecksumIEEE([]byte(h.name))) // so that the others stay when one is added
	a := vtclient.NewAdaptive(h.cost)
	a.Seed(seed)
	h.learn(a, rand.New(rand.NewPCG(seed, 1)))
	var b strings.Builder
	describe(&b, h.name, a)
	return b.String()
}

// describe writes down what a foretells, when it would poll next at thirty ages, and
// what it would remember.
func describe(b *strings.Builder, name string, a *vtclient.Adaptive) {
	fmt.Fprintf(b, "# %s\n", name)
	line := func(what string, values ...float64) {
		b.WriteString(what)
		for _, v := range values {
			fmt.Fprintf(b, " %.9g", v)
		}
		b.WriteByte('\n')
	}
	for _, at := range []vtclient.Attempt{
		{}, {Elapsed: 20 * time.Second}, {Elapsed: 100 * time.Second, PendingAt: 90 * time.Second},
		{Elapsed: 4 * time.Minute, PendingAt: 4 * time.Minute, Number: 7}, {PendingAt: 3 * time.Hour, Elapsed: 4 * time.Hour},
		{PendingAt: 4000 * time.Hour, Elapsed: 4000 * time.Hour},
		{Expected: time.Minute}, {Expected: time.Minute, Elapsed: time.Minute, PendingAt: 50 * time.Second},
		{Expected: 20 * time.Minute}, {Expected: time.Hour, Elapsed: 50 * time.Minute, PendingAt: 50 * time.Minute},
		{Shared: 3}, {Shared: 100, Elapsed: time.Minute, PendingAt: time.Minute}, {Shared: 100, Expected: time.Minute},
	} {
		f := a.Explain(at)
		values := []float64{f.Median.Seconds(), f.P90.Seconds(), float64(f.Jobs)}
		for _, p := range f.Polls {
			values = append(values, p.Seconds())
		}
		line("explain", values...)
	}
	for n := range 30 {
		age := time.Duration(50e6 * math.Exp(float64(n)*0.6)).Truncate(time.Millisecond) // to 21 days
		var values []float64
		for _, at := range []vtclient.Attempt{
			{Number: n, Elapsed: age, PendingAt: age}, {Number: n, Elapsed: age, PendingAt: age},
			{Number: n, Elapsed: age + age/8, PendingAt: age, Expected: 2 * time.Minute},
		} {
			d, _ := a.Next(at)
			values = append(values, d.Seconds())
		}
		line("next at "+age.String(), values...)
	}
	text, _ := a.MarshalText()
	state := strings.Split(strings.TrimSpace(string(text)), "\n")
	fmt.Fprintf(b, "state of %d lines\n", len(state))
	for i, s := range state {
		if i < 4 || i >= len(state)-3 || i%37 == 0 {
			b.WriteString(s + "\n")
		}
	}
}

// sameNumbers compares two lines word by word: numbers to six digits, since a
// processor may round a product and a sum at once or one after the other, and
// short times to 10 ns.
func sameNumbers(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i] == y[i] {
			continue
		}
		v, err1 := strconv.ParseFloat(x[i], 64)
		w, err2 := strconv.ParseFloat(y[i], 64)
		if err1 != nil || err2 != nil || !(math.Abs(v-w) <= 1e-6*max(math.Abs(v), math.Abs(w), 1e-2)) {
			return false
		}
	}
	return true
}
