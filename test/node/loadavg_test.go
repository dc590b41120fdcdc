// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loadavg is what /proc/loadavg says.
type loadavg struct {
	average        [3]float64 // over 1, 5 and 15 minutes
	running, total int
	last           int
}

func (c *container) loadavg() (l loadavg) {
	c.t.Helper()
	// cat has one thread, which waits for the answer: it is no load itself.
	text := c.sh("cat /proc/loadavg")
	if _, err := fmt.Sscanf(text, "%f %f %f %d/%d %d\n", &l.average[0], &l.average[1], &l.average[2], &l.running, &l.total, &l.last); err != nil || len(text) != 64 {
		c.t.Fatalf("loadavg is %q: %v", text, err)
	}
	return l
}

// interval is the time between two samples, counted from the machine's boot.
const interval = 5 * time.Second

// midway waits until the samples of the interval, and of those before it, are
// taken and the next ones are not, and returns the interval's number.
func midway(t *testing.T, from int64) int64 {
	t.Helper()
	var at time.Duration
	eventually(t, "middle of an interval", func() bool {
		at = boottime(t)
		return int64(at/interval) >= from && at%interval > interval/5 && at%interval < interval*4/5
	})
	return int64(at / interval)
}

// decayed is what the kernel's formula makes of an average over minutes, n
// samples with so many active tasks later.
func decayed(average, active float64, minutes int, n int64) float64 {
	exp := map[int]float64{1: 1884, 5: 2014, 15: 2037}[minutes] / 2048
	for range n {
		average = average*exp + active*(1-exp)
	}
	return average
}

var minutes = [3]int{1, 5, 15}

// TestLoadavg: the load of two loops rises towards 2 by the kernel's formula,
// and an idle container beside them has none.
func TestLoadavg(t *testing.T) {
	need(t, "cat")
	busy := newContainer(t, "--cpus", "1", "--files", "default,loadavg")
	idle := newContainer(t, "--cpus", "1", "--files", "default,loadavg")
	// Of one thread each: those of Go would want a CPU now and then, too.
	loops := busy.sh("for i in 1 2; do while :; do :; done > /dev/null 2>&1 & echo $!; done")
	defer func() { busy.sh("kill -9 " + strings.Join(strings.Fields(loops), " ")) }()
	born := int64(startOf(t, busy.agent) / interval)
	from := midway(t, born)
	first := busy.loadavg()
	idle.loadavg()
	samples := int64(2)
	if testing.Short() {
		samples = 1
	}
	midway(t, from+samples)
	second, rest := busy.loadavg(), idle.loadavg()
	until := int64(boottime(t) / interval)
	for i, m := range minutes {
		// One sample more or less if the machine was slow; and the agent
		// itself may have run in one.
		lo, hi := decayed(0, 2, m, from-born), decayed(0, 3, m, from-born+1)
		if got := first.average[i]; got < lo-0.02 || got > hi+0.02 {
			t.Errorf("%d-minute average is %.2f at first, want %.2f to %.2f", m, got, lo, hi)
		}
		lo, hi = decayed(first.average[i], 2, m, 1), decayed(first.average[i], 3, m, until-from+1)
		if got := second.average[i]; got < lo-0.02 || got > hi+0.02 {
			t.Errorf("%d-minute average is %.2f after %.2f and %d samples, want %.2f to %.2f", m, got, first.average[i], until-from, lo, hi)
		}
		// Its agent may have been about to run in any sample, where the machine
		// lets it wait for a CPU.
		if got, most := rest.average[i], min(decayed(0, 2, m, until-from+1), second.average[i]/2); got > most+0.02 {
			t.Errorf("%d-minute average of an idle container is %.2f", m, got)
		}
	}
	if second.running < 2 || rest.running != 1 {
		t.Errorf("%d run beside two loops, %d in an idle container", second.running, rest.running)
	}
	for _, c := range []*container{busy, idle} {
		l := c.loadavg()
		var visible, newest int
		if _, err := fmt.Sscan(c.sh(`set -- /proc/[0-9]*/task/*; n=$#; sleep 0 & echo $n $!`), &visible, &newest); err != nil {
			t.Fatal(err)
		}
		if l.total < visible {
			t.Errorf("%d tasks in all, but %d can be seen: atop would hang", l.total, visible)
		}
		if l.last < 1 || l.last > newest {
			t.Errorf("the last pid is %d, that of a process started after it %d", l.last, newest)
		}
	}
	t.Logf("two loops: %v, then %v; idle: %v", first, second, rest)
}

// TestLoadavgCrosses: who serves next goes on with the load averages, also
// after both processes were killed. (LXCFS begins at 0 again.)
func TestLoadavgCrosses(t *testing.T) {
	m := newTeam(t)
	active, standby := m.start("ready"), m.start("joined", "--standby")
	c := newContainer(t, "--fs", m.dir, "--cpus", "1", "--files", "default,loadavg")
	stop := c.burn(4)
	var before loadavg
	eventually(t, "a load", func() bool {
		before = c.loadavg()
		time.Sleep(freshness)
		return before.average[0] >= 0.3
	})
	stop() // what was lost would be 0 from now on
	at := int64(boottime(t) / interval)
	check := func(after string) {
		t.Helper()
		l := c.loadavg()
		n := int64(boottime(t)/interval) - at
		for i, m := range minutes {
			if least := decayed(before.average[i], 0, m, n); l.average[i] < least-0.02 {
				t.Errorf("%d-minute average is %.2f after %s, was %.2f %d samples ago, should be %.2f", m, l.average[i], after, before.average[i], n, least)
			}
		}
		if l.average[0] == 0 {
			t.Errorf("load is 0 after %s", after)
		}
	}
	check("the end of the load")
	active.kill()
	standby.waitFor("ready")
	check("a takeover")
	active, standby = standby, m.start("joined", "--standby")
	check("another one's joining")
	active.signal(unix.SIGKILL)
	standby.signal(unix.SIGKILL)
	active.kill()
	standby.kill()
	m.start("ready")
	eventually(t, "repair", func() bool {
		a, err := c.try(request{Run: []string{"cat", "/proc/loadavg"}})
		return err == nil && a.Code == 0
	})
	check("both were killed")
}

// TestLoadavgConsumers: programs take the load from it, and atop, which hangs
// where there are more tasks than it says, ends.
func TestLoadavgConsumers(t *testing.T) {
	need(t, "atop", "uptime")
	c := newContainer(t, "--cpus", "1", "--files", "default,loadavg")
	if out := c.sh("atop 1 1"); !strings.Contains(out, "avg1 ") {
		t.Errorf("atop says %q", out)
	}
	l := c.loadavg()
	if out, want := c.sh("uptime"), fmt.Sprintf("load average: %.2f", l.average[0]); !strings.Contains(out, want) && c.loadavg() == l {
		t.Errorf("uptime says %q, loadavg %v", out, l)
	}
}
