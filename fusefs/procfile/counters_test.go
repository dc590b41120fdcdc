// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podproc/podproc/fusefs/view"
)

// limitedTo is n CPUs of more, by quota.
func limitedTo(n int) CPUs {
	return CPUs{N: n, Limited: true, Host: []int{0, 1, 2, 3, 4, 5, 6, 7}}
}

func used(user, system time.Duration) *view.CPUTime {
	return &view.CPUTime{User: uint64(user), System: uint64(system)}
}

// lines returns what stat shows: the sum, then each CPU shown.
func (c *Counters) lines() []ticks {
	all := []ticks{c.total()}
	for _, cpu := range c.shown {
		all = append(all, c.cpu(cpu))
	}
	return all
}

func TestCounters(t *testing.T) {
	const s = time.Second
	type look struct {
		at   time.Duration
		cpus CPUs
		used *view.CPUTime
		want []ticks
	}
	for _, tt := range []struct {
		name  string
		birth time.Duration
		looks []look
	}{
		{"capacity at the first look is N times the age", 100 * s, []look{
			{110 * s, limitedTo(2), used(4*s, 2*s), []ticks{{400, 200, 1400}, {200, 100, 700}, {200, 100, 700}}},
		}},
		{"idle grows by N x dt - used", 0, []look{
			{10 * s, limitedTo(1), used(0, 0), []ticks{{0, 0, 1000}, {0, 0, 1000}}},
			{20 * s, limitedTo(1), used(3*s, 1*s), []ticks{{300, 100, 1600}, {300, 100, 1600}}},
			{30 * s, limitedTo(1), used(13*s, 1*s), []ticks{{1300, 100, 1600}, {1300, 100, 1600}}},
		}},
		{"more used before the first look than its CPUs had time for", 0, []look{
			{10 * s, limitedTo(1), used(30*s, 10*s), []ticks{{3000, 1000, 0}, {750, 250, 0}}},
			{20 * s, limitedTo(1), used(30*s, 10*s), []ticks{{3000, 1000, 1000}, {750, 250, 1000}}},
		}},
		{"a resize changes the slope, and a CPU taken away keeps what it had", 0, []look{
			{10 * s, limitedTo(1), used(0, 0), []ticks{{0, 0, 1000}, {0, 0, 1000}}},
			{20 * s, limitedTo(2), used(0, 0), []ticks{{0, 0, 2000}, {0, 0, 2000}, {}}},
			{30 * s, limitedTo(1), used(0, 0), []ticks{{0, 0, 4000}, {0, 0, 3000}}},
			{40 * s, limitedTo(2), used(0, 0), []ticks{{0, 0, 5000}, {0, 0, 4000}, {0, 0, 1000}}},
			{50 * s, limitedTo(2), used(20*s, 0), []ticks{{2000, 0, 5000}, {1000, 0, 4000}, {1000, 0, 1000}}},
		}},
		{"what CPUs that came have worked off, nobody was idle for", 0, []look{
			{10 * s, limitedTo(1), used(0, 0), []ticks{{0, 0, 1000}, {0, 0, 1000}}},
			{20 * s, limitedTo(3), used(20*s, 0), []ticks{{2000, 0, 1000}, {1000, 0, 1000}, {500, 0, 0}, {500, 0, 0}}},
		}},
		{"a burst is worked off, not lost", 0, []look{
			{10 * s, limitedTo(1), used(0, 0), []ticks{{0, 0, 1000}, {0, 0, 1000}}},
			{10*s + 100*time.Millisecond, limitedTo(1), used(200*time.Millisecond, 0), []ticks{{10, 0, 1000}, {10, 0, 1000}}},
			{10*s + 200*time.Millisecond, limitedTo(1), used(200*time.Millisecond, 0), []ticks{{20, 0, 1000}, {20, 0, 1000}}},
			{10*s + 300*time.Millisecond, limitedTo(1), used(200*time.Millisecond, 0), []ticks{{20, 0, 1010}, {20, 0, 1010}}},
		}},
		{"use that no time is left for counts", 0, []look{
			{10 * s, limitedTo(1), used(0, 0), []ticks{{0, 0, 1000}, {0, 0, 1000}}},
			{20 * s, limitedTo(1), used(40*s, 0), []ticks{{3900, 0, 1000}, {1000, 0, 1000}}},
			{30 * s, limitedTo(1), used(40*s, 0), []ticks{{4000, 0, 1900}, {1100, 0, 1900}}},
		}},
		{"time does not run backwards", 0, []look{
			{10 * s, limitedTo(1), used(s, 0), []ticks{{100, 0, 900}, {100, 0, 900}}},
			{9 * s, limitedTo(1), used(s, 0), []ticks{{100, 0, 900}, {100, 0, 900}}},
			{11 * s, limitedTo(1), used(s, 0), []ticks{{100, 0, 1000}, {100, 0, 1000}}},
		}},
		{"a counter that is a little behind stands still, one that was reset goes on", 0, []look{
			{10 * s, limitedTo(1), used(5*s, 0), []ticks{{500, 0, 500}, {500, 0, 500}}},
			{11 * s, limitedTo(1), used(4*s, 0), []ticks{{500, 0, 600}, {500, 0, 600}}},
			{12 * s, limitedTo(1), used(6*s, 0), []ticks{{600, 0, 600}, {600, 0, 600}}},
			{13 * s, limitedTo(1), used(0, 0), []ticks{{600, 0, 700}, {600, 0, 700}}},
			{14 * s, limitedTo(1), used(s/2, 0), []ticks{{650, 0, 750}, {650, 0, 750}}},
		}},
		{"not born yet", 20 * s, []look{
			{10 * s, limitedTo(1), used(0, 0), []ticks{{}, {}}},
			{20 * s, limitedTo(1), used(0, 0), []ticks{{0, 0, 1000}, {0, 0, 1000}}},
		}},
		{"per CPU where the kernel counts so, gaps and all", 0, []look{
			{10 * s, CPUs{N: 2, Whole: true, Host: []int{1, 4}}, &view.CPUTime{User: uint64(6 * s), PerCPU: []view.CPUUse{
				{}, {User: uint64(2 * s)}, {}, {}, {User: uint64(3 * s), System: uint64(s)}}},
				[]ticks{{500, 100, 1400}, {200, 0, 800}, {300, 100, 600}}},
			{20 * s, CPUs{N: 2, Whole: true, Host: []int{1, 4}}, &view.CPUTime{User: uint64(6 * s), PerCPU: []view.CPUUse{
				{}, {User: uint64(2 * s)}, {}, {}, {User: uint64(12 * s), System: uint64(s)}}},
				[]ticks{{1400, 100, 2500}, {200, 0, 1800}, {1200, 100, 700}}},
		}},
		{"per CPU, renumbered; what was used elsewhere is spread", 0, []look{
			{10 * s, CPUs{N: 2, Limited: true, Whole: true, Host: []int{2, 3}}, &view.CPUTime{User: uint64(6 * s), PerCPU: []view.CPUUse{
				{User: uint64(2 * s)}, {}, {User: uint64(3 * s)}, {User: uint64(s)}}},
				[]ticks{{600, 0, 1400}, {400, 0, 600}, {200, 0, 800}}},
		}},
		{"from spread to per CPU and back", 0, []look{
			{10 * s, limitedTo(2), &view.CPUTime{User: uint64(4 * s), PerCPU: []view.CPUUse{{User: uint64(4 * s)}, {}}},
				[]ticks{{400, 0, 1600}, {200, 0, 800}, {200, 0, 800}}},
			{20 * s, CPUs{N: 2, Whole: true, Host: []int{0, 1}}, &view.CPUTime{User: uint64(6 * s), PerCPU: []view.CPUUse{{User: uint64(6 * s)}, {}}},
				[]ticks{{600, 0, 3400}, {300, 0, 1700}, {300, 0, 1700}}},
			{30 * s, CPUs{N: 2, Whole: true, Host: []int{0, 1}}, &view.CPUTime{User: uint64(9 * s), PerCPU: []view.CPUUse{{User: uint64(9 * s)}, {}}},
				[]ticks{{900, 0, 5100}, {600, 0, 2400}, {300, 0, 2700}}},
			{40 * s, limitedTo(1), &view.CPUTime{User: uint64(10 * s), PerCPU: []view.CPUUse{{User: uint64(10 * s)}, {}}},
				[]ticks{{1000, 0, 7000}, {650, 0, 3350}}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c Counters
			for i, l := range tt.looks {
				c.Advance(l.at, tt.birth, l.cpus, l.used)
				if diff := cmp.Diff(l.want, c.lines(), cmp.AllowUnexported(ticks{})); diff != "" {
					t.Fatalf("look %d (-want +got):\n%s", i, diff)
				}
				c = cross(t, &c)
			}
		})
	}
}

// cross returns c as a successor process gets it.
func cross(t testing.TB, c *Counters) Counters {
	t.Helper()
	b, err := c.AppendBinary([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	var got Counters
	if err := got.UnmarshalBinary(b[1:]); err != nil {
		t.Fatal(err)
	}
	if got.Birth() != c.Birth() || got.Started() != c.Started() || !slices.Equal(got.lines(), c.lines()) {
		t.Fatalf("crossed as %+v, was %+v", got, *c)
	}
	return got
}

// life leads counters through a container's life that random numbers decide,
// and holds the promises at each look.
func life(t *testing.T, looks int, random func(n int) int) {
	var c Counters
	now := time.Duration(random(1 << 30))
	birth := now - time.Duration(random(1<<30))
	var use view.CPUTime
	per := make([]view.CPUUse, 8)
	last := map[int]ticks{}
	for range looks {
		dt := time.Duration(random(1 << (10 + random(24))))
		now += dt
		for i := range random(9) {
			per[i].User += uint64(random(int(dt) + 1))
			per[i].System += uint64(random(int(dt)/8 + 1))
		}
		use.User, use.System = 0, 0
		for _, u := range per {
			use.User += u.User
			use.System += u.System
		}
		if use.PerCPU = nil; random(2) == 0 {
			use.PerCPU = per
		}
		cpus := limitedTo(1 + random(7))
		switch random(3) {
		case 0:
			cpus = CPUs{N: 5, Whole: true, Host: []int{0, 2, 3, 6, 7}}
		case 1:
			cpus = CPUs{N: 2, Limited: true, Whole: true, Host: []int{1, 5}}
		}
		c.Advance(now, birth, cpus, &use)

		var sum ticks
		for cpu := range c.cpus {
			k := c.cpu(cpu)
			if w := last[cpu]; k.user < w.user || k.system < w.system || k.idle < w.idle {
				t.Fatalf("cpu%d steps back from %v to %v", cpu, w, k)
			}
			if elapsed := uint64(now-birth) / tick; k.user+k.system+k.idle > elapsed {
				t.Fatalf("cpu%d has gathered %v, %d ticks have passed", cpu, k, elapsed)
			}
			last[cpu] = k
			sum.user, sum.system, sum.idle = sum.user+k.user, sum.system+k.system, sum.idle+k.idle
		}
		all := c.total()
		if w := last[-1]; all.user < w.user || all.system < w.system || all.idle < w.idle {
			t.Fatalf("cpu steps back from %v to %v", w, all)
		}
		last[-1] = all
		if all.user < sum.user || all.system < sum.system || all.idle != sum.idle {
			t.Fatalf("cpu is %v, its CPUs %v", all, sum)
		}
		if len(c.shown) != cpus.N {
			t.Fatalf("%d CPUs shown of %d", len(c.shown), cpus.N)
		}
		if random(16) == 0 {
			c = cross(t, &c)
		}
	}
	// All that was used is shown once it had time to.
	for range 4 {
		now += 2 * time.Second
		c.Advance(now, birth, limitedTo(1), &use)
	}
	shown, real := c.total(), (use.User+use.System)/tick
	if got := shown.user + shown.system; got > real || got+40 < real {
		t.Fatalf("%d ticks of use shown of %d", got, real)
	}
}

func TestCountersLife(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		life(t, 100, r.IntN)
	}
}

func FuzzCounters(f *testing.F) {
	f.Add([]byte("a container's life"))
	f.Add(make([]byte, 200))
	f.Fuzz(func(t *testing.T, b []byte) {
		next := func(n int) int {
			v := 0
			for range 4 {
				v <<= 8
				if len(b) > 0 {
					v, b = v|int(b[0]), b[1:]
				}
			}
			return v % n
		}
		life(t, min(len(b)/64, 50), next)
	})
}

func FuzzUnmarshalCounters(f *testing.F) {
	var c Counters
	empty, _ := c.MarshalBinary()
	f.Add(empty)
	c.Advance(time.Hour, time.Minute, CPUs{N: 2, Whole: true, Host: []int{1, 4}},
		&view.CPUTime{User: 1e9, PerCPU: []view.CPUUse{{}, {User: 5}, {}, {}, {System: 7}}})
	full, _ := c.MarshalBinary()
	f.Add(full)
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Counters
		if err := c.UnmarshalBinary(b); err != nil {
			if c.Started() {
				t.Error("started in spite of an error")
			}
			return
		}
		again, err := c.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var d Counters
		if err := d.UnmarshalBinary(again); err != nil {
			t.Fatal(err)
		}
		c.Advance(c.at+time.Second, 0, limitedTo(3), used(time.Hour, time.Hour))
		c.lines()
	})
}
