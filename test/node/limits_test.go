// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// isolated runs a command by podproc run with a server of its own.
func isolated(t *testing.T, flags []string, command ...string) string {
	t.Helper()
	args := append(append([]string{"run"}, flags...), "--")
	cmd := exec.Command(podproc, append(args, command...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("podproc %q %q: %v: %s", args, command, err, &stderr)
	}
	return string(out)
}

func TestMemoryLimit(t *testing.T) {
	need(t, "free")
	for _, tt := range []struct{ limit, total string }{{"256Mi", "262144"}, {"100M", "97656"}, {"1.5Gi", "1572864"}} {
		out := isolated(t, []string{"--memory", tt.limit, "--cpus", "1"}, "free", "-k")
		_, line, _ := strings.Cut(out, "Mem:")
		if got := strings.Fields(line)[0]; got != tt.total {
			t.Errorf("--memory %s: free -k shows a total of %s, want %s:\n%s", tt.limit, got, tt.total, out)
		}
	}
}

// counts are the CPUs in cpuinfo, stat and online.
const counts = `grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat; cat /sys/devices/system/cpu/online; getconf _NPROCESSORS_ONLN`

func TestCPULimit(t *testing.T) {
	two := min(2, hostCPUs(t))
	for _, tt := range []struct {
		flags []string
		n     int
	}{
		{[]string{"--cpus", "1"}, 1},
		{[]string{"--cpus", "1.5"}, two},
		{[]string{"--cpus", "0.5"}, 1},
		{[]string{"--cpus", "500m"}, 1},
		{[]string{"--cpuset", last(t)}, 1},
		{[]string{"--cpus", "2", "--cpuset", "0"}, 1},
	} {
		online := "0"
		if tt.n > 1 {
			online = fmt.Sprintf("0-%d", tt.n-1)
		}
		want := fmt.Sprintf("%d\n%[1]d\n%s\n%[1]d\n", tt.n, online)
		if got := isolated(t, tt.flags, "sh", "-c", counts); got != want {
			t.Errorf("%q: cpuinfo, stat, online, getconf: got %q, want %q", tt.flags, got, want)
		}
	}
}

var megahertz = regexp.MustCompile(`(?m)^cpu MHz.*\n`)

// TestNoCPULimit: the JVM needs the machine's own numbers where there is no limit.
func TestNoCPULimit(t *testing.T) {
	for _, path := range []string{"/proc/cpuinfo", "/sys/devices/system/cpu/online"} {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got := isolated(t, []string{"--memory", "64Mi"}, "cat", path)
		if megahertz.ReplaceAllString(got, "") != megahertz.ReplaceAllString(string(want), "") {
			t.Errorf("without a limit of CPU %s is\n%s\nand the machine's\n%s", path, got, want)
		}
	}
}

// TestLiveLimits: a limit that is changed shows at the next read after the
// freshness bound.
func TestLiveLimits(t *testing.T) {
	c := newContainer(t, "--memory", "256Mi", "--cpus", "1")
	steps := []struct{ memory, cpu, n int }{
		{128 << 20, 100, 1}, {512 << 20, 150, min(2, hostCPUs(t))}, {256 << 20, 50, 1},
	}
	for _, s := range steps {
		c.limitMemory(s.memory)
		c.limitCPU(s.cpu)
		time.Sleep(2 * freshness)
		if got, want := c.meminfo()["MemTotal"], s.memory/1024; got != want {
			t.Errorf("%s after the limit became %d kB: MemTotal is %d", 2*freshness, want, got)
		}
		if got := strings.Count(c.read("/proc/cpuinfo"), "processor\t:"); got != s.n {
			t.Errorf("%s after the limit became %d %% of a CPU: %d CPUs in cpuinfo, want %d", 2*freshness, s.cpu, got, s.n)
		}
	}
}

// TestCounters: over 10,000 reads no counter in stat goes backwards while the
// quota changes, and an idle container stays idle.
func TestCounters(t *testing.T) {
	for _, tt := range []struct {
		name  string
		loops int
	}{{"idle", 0}, {"busy", 1}} {
		t.Run(tt.name, func(t *testing.T) {
			c := newContainer(t, "--cpus", "1")
			c.read("/proc/stat") // the file is the container's from now on
			if tt.loops > 0 {
				defer c.burn(tt.loops)()
			}
			reads := "10000"
			switch {
			case soak:
				reads = "1000000"
			case testing.Short():
				reads = "5000"
			}
			a := newAccount(c)
			var out []byte
			var err error
			var wait sync.WaitGroup
			wait.Go(func() {
				// From outside of the cgroup: it must not be busy by this.
				out, err = c.inside("watch", reads).CombinedOutput()
			})
			for _, cpu := range []int{200, 100, 200, 50, 150, 100} {
				time.Sleep(300 * time.Millisecond)
				c.limitCPU(cpu)
			}
			wait.Wait()
			a.close()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var w watched
			if err := json.Unmarshal(out, &w); err != nil {
				t.Fatalf("%v: %q", err, out)
			}
			w.judge(t, a)
		})
	}
}

// watched is what a watch has seen: the first and the last line "cpu".
type watched struct {
	Reads       int
	Start, End  time.Time
	Longest     time.Duration // of a read
	First, Last []int64
}

// judge compares the CPU time between both with the accounting.
func (w *watched) judge(t *testing.T, a *account) {
	t.Helper()
	const userHZ = 100
	var used, idle time.Duration
	for i := range w.First {
		d := time.Duration(w.Last[i]-w.First[i]) * time.Second / userHZ
		if i == 3 || i == 4 {
			idle += d
		} else {
			used += d
		}
	}
	// One tick is lost or won by rounding at both ends and in each number.
	const rounding = 4 * time.Second / userHZ
	lo, hi := a.used(w.Start, w.End, w.Longest)
	t.Logf("%d reads in %s: used %s (the accounting: %s to %s), idle %s", w.Reads, w.End.Sub(w.Start), used, lo, hi, idle)
	if used < lo-rounding || used > hi+rounding {
		t.Errorf("stat counts %s of use, the accounting %s to %s", used, lo, hi)
	}
	if share := 100 * float64(used) / float64(used+idle); hi < w.End.Sub(w.Start)/100 && share > 3 {
		t.Errorf("an idle container was %.1f %% busy while its quota changed", share)
	}
}

// watch reads /proc/stat many times, from the start of a held descriptor and
// now and then from a new one, and fails when a counter goes backwards.
func watch(args []string) error {
	reads, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	held, err := os.Open("/proc/stat")
	if err != nil {
		return err
	}
	w := watched{Reads: reads, Start: time.Now()}
	var text, before []byte
	last := map[string][]int64{}
	buf := make([]byte, 1<<16)
	for i := range reads {
		began := time.Now()
		if i%10 == 0 {
			text, err = os.ReadFile("/proc/stat")
		} else {
			var n int
			n, err = held.ReadAt(buf, 0)
			if text = buf[:n]; err == io.EOF {
				err = nil
			}
		}
		if err != nil {
			return err
		}
		w.End = time.Now()
		w.Longest = max(w.Longest, w.End.Sub(began))
		if i%20 == 0 { // 10,000 reads are to see some 20 snapshots and more
			time.Sleep(5 * time.Millisecond)
		}
		if bytes.Equal(text, before) {
			continue
		}
		before = bytes.Clone(text)
		for line := range strings.Lines(string(text)) {
			key, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			var values []int64
			for _, f := range strings.Fields(rest) {
				v, err := strconv.ParseInt(f, 10, 64)
				if err != nil {
					return fmt.Errorf("line %q: %w", line, err)
				}
				values = append(values, v)
			}
			if was := last[key]; strings.HasPrefix(key, "cpu") || key == "ctxt" || key == "processes" || key == "intr" {
				for i := range was {
					if i >= len(values) || values[i] < was[i] {
						return fmt.Errorf("read %d: %s was %d, is %d", w.Reads, key, was, values)
					}
				}
				last[key] = values
			}
		}
		if w.First == nil {
			w.First = last["cpu"]
		}
	}
	w.Last = last["cpu"]
	return json.NewEncoder(os.Stdout).Encode(w)
}
