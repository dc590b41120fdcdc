// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// In TestLoad a container's MemTotal tells whose it is and since when: the
// limit of container c is base(c) plus a step of 4 KiB for each generation,
// which changes all the time. What the kernel was told and when is in a page
// that all readers have mapped.
const (
	generations = 1024
	step        = 4 // kB
)

func base(c int) int { return (256 + 8*c) << 10 } // kB: room for the readers themselves; generations take 4 MiB

// timeline is that page. begin and end are the times in ns, by CLOCK_MONOTONIC,
// between which the kernel got the limit of each generation.
type timeline struct {
	last       atomic.Int64 // counts on; the generation is last % generations
	begin, end [generations]atomic.Int64
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

func openTimeline(path string, flags int) (*timeline, error) {
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, protection := int(unsafe.Sizeof(timeline{})), unix.PROT_READ
	if flags&os.O_CREATE != 0 {
		protection |= unix.PROT_WRITE
		if err := f.Truncate(int64(size)); err != nil {
			return nil, err
		}
	}
	m, err := unix.Mmap(int(f.Fd()), 0, size, protection, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*timeline)(unsafe.Pointer(&m[0])), nil
}

// drive changes the limit of a container until stop is closed.
func (l *timeline) drive(c *container, number int, stop <-chan struct{}) {
	for n := int64(0); ; n++ {
		g := n % generations
		l.begin[g].Store(monotonic())
		c.limitMemory((base(number) + step*int(g)) << 10)
		l.end[g].Store(monotonic())
		l.last.Store(n)
		select {
		case <-stop:
			return
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// age is how long what a reader saw, between start and end, was not true any
// more when he began to read: a limit is true until the next one is set.
func (l *timeline) age(g int, start int64) time.Duration {
	next := (g + 1) % generations
	begin, end := l.begin[g].Load(), l.end[next].Load()
	if end <= begin || end > start {
		return 0 // there is no next one, or it came later
	}
	return time.Duration(start - end)
}

// report is what a load process has found.
type report struct {
	Reads int
	Ages  [100]int      // how many reads were that many times 10 ms old
	Wait  time.Duration // the longest that the process waited for a CPU
	Error string
}

const ageStep = 10 * time.Millisecond

// older is how many reads were older than that.
func (r *report) older(than time.Duration) (n int) {
	for i, m := range r.Ages {
		if time.Duration(i)*ageStep > than {
			n += m
		}
	}
	return n
}

// load is one reader: args are the path of the file, the container's number,
// how to read, the number of reads, the timeline, and a pause after each read.
func load(args []string) error {
	path, how := args[0], args[2]
	number, err1 := strconv.Atoi(args[1])
	reads, err2 := strconv.Atoi(args[3])
	l, err3 := openTimeline(args[4], os.O_RDONLY)
	pause, err4 := time.ParseDuration(args[5])
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			return err
		}
	}
	r := &reader{path: path, how: how, buf: make([]byte, 8192)}
	var rep report
	var w waits
	if err := w.open("/proc/thread-self/schedstat"); err != nil {
		return err
	}
	for rep.Reads < reads {
		rep.Wait = max(rep.Wait, w.since())
		start := monotonic()
		text, err := r.read()
		if err == nil {
			var g int
			g, err = generation(text, number)
			rep.Ages[min(int(l.age(g, start)/ageStep), len(rep.Ages)-1)]++
		}
		if err != nil {
			rep.Error = fmt.Sprintf("read %d by %s: %v", rep.Reads, how, err)
			break
		}
		rep.Reads++
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(rep)
}

// generation checks that text is a whole meminfo of container number.
func generation(text []byte, number int) (int, error) {
	lines := bytes.Split(text, []byte("\n"))
	if len(lines) < 30 || len(lines[len(lines)-1]) != 0 {
		return 0, fmt.Errorf("not a whole file: %d bytes, %d lines, %q", len(text), len(lines), text)
	}
	var total, free, available int
	for i, to := range []*int{&total, &free, &available} {
		f := bytes.Fields(lines[i])
		if len(f) != 3 {
			return 0, fmt.Errorf("line %q", lines[i])
		}
		var err error
		if *to, err = strconv.Atoi(string(f[1])); err != nil {
			return 0, fmt.Errorf("line %q: %w", lines[i], err)
		}
	}
	for _, line := range lines[:len(lines)-1] {
		if i := bytes.IndexByte(line, ':'); i < 1 || bytes.IndexByte(line, 0) >= 0 {
			return 0, fmt.Errorf("line %q of %q", line, text)
		}
	}
	if free > available || available > total {
		return 0, fmt.Errorf("torn: MemTotal %d, MemFree %d, MemAvailable %d", total, free, available)
	}
	g := (total - base(number)) / step
	if g < 0 || g >= generations {
		return 0, fmt.Errorf("foreign: MemTotal %d is not of container %d", total, number)
	}
	return g, nil
}

// usage is what the server holds: descriptors and resident memory in kB.
func (p *process) usage(t *testing.T) (fds, rss int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	entries, err := os.ReadDir(dir + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(read(t, dir+"/status"), "VmRSS:")
	if rss, err = strconv.Atoi(strings.Fields(rest)[0]); err != nil {
		t.Fatal(err)
	}
	return len(entries), rss
}

// TestLoad: 64 processes in 8 containers read at once in all ways, half of the
// containers with files that were bound from outside of their cgroup; readers
// in other containers come through /proc/PID/root. No read fails, is torn,
// foreign or old, and the server does not grow.
func TestLoad(t *testing.T) {
	need(t, "nsenter", "mount")
	containers, readers, reads := 8, 8, 200_000
	switch {
	case soak:
		reads = 2_000_000
	case testing.Short(): // fits the VM
		containers, readers, reads = 4, 4, 4_000
	}
	var all []*container
	stop := make(chan struct{})
	var drivers sync.WaitGroup
	defer drivers.Wait()
	defer close(stop)
	for i := range containers {
		files := "meminfo"
		if i%2 == 1 {
			files = "swaps"
		}
		c := newContainer(t, "--files", files, "--memory", strconv.Itoa(base(i)<<10))
		if i%2 == 1 {
			shell(t, fmt.Sprintf("nsenter -t %d -m -- mount --bind -o ro %s/proc/meminfo /proc/meminfo", c.agent, tree))
		}
		c.read("/proc/meminfo")
		all = append(all, c)
		l, err := openTimeline(c.timeline(), os.O_RDWR|os.O_CREATE)
		if err != nil {
			t.Fatal(err)
		}
		drivers.Go(func() { l.drive(c, i, stop) })
	}

	round := func(reads int, pause time.Duration) (sum report) {
		var wait sync.WaitGroup
		var mu sync.Mutex
		start := func(name string, cmd *exec.Cmd) {
			wait.Go(func() {
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				var rep report
				if err == nil {
					err = json.Unmarshal(out, &rep)
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil || rep.Error != "" {
					t.Errorf("%s: %v %s%s", name, err, &stderr, rep.Error)
				}
				sum.Reads += rep.Reads
				sum.Wait = max(sum.Wait, rep.Wait)
				for i, n := range rep.Ages {
					sum.Ages[i] += n
				}
			})
		}
		each := strconv.Itoa(reads / (containers * readers))
		for i, c := range all {
			for j := range readers {
				start(fmt.Sprintf("container %d", i), c.reader(c, "/proc/meminfo", i, ways[j%len(ways)], each, pause.String()))
			}
			// A neighbour who looks at this one's file.
			start(fmt.Sprintf("neighbour of %d", i), all[(i+1)%containers].reader(nil, fmt.Sprintf("/proc/%d/root/proc/meminfo", c.agent), i, ways[i%len(ways)], each, pause.String()))
		}
		wait.Wait()
		return sum
	}

	// The kernel believes an answer from the moment on at which the reader
	// that has asked is woken up and looks at it: so what the scheduler
	// withholds from the server after a snapshot, and from that reader, comes
	// on top for all.
	judge := func(reads int, pause time.Duration) {
		withheld, w := server.withheld(), startWatch(t)
		sum := round(reads, pause)
		slack := withheld() + sum.Wait + w.late()
		t.Logf("%d reads with a pause of %s, %d more than %s old, %d more than %s; threads waited up to %s for a CPU",
			sum.Reads, pause, sum.older(freshness), freshness, sum.older(2*freshness), 2*freshness, slack)
		if n := sum.older(2*freshness + slack); n > sum.Reads/10_000 {
			t.Errorf("%d of %d reads were more than %s old, where threads waited up to %s for a CPU", n, sum.Reads, 2*freshness+slack, slack)
		}
	}
	round(reads/10, 0) // what the server needs once, it has after this
	fds, rss := server.usage(t)
	judge(reads, 0)
	judge(reads/20, 5*time.Millisecond) // readers that leave each other CPUs
	fds2, rss2 := server.usage(t)
	if fds2 > fds+8 {
		t.Errorf("the server had %d descriptors open, and has %d", fds, fds2)
	}
	if rss2 > rss+8<<10 {
		t.Errorf("the server had %d kB of memory, and has %d", rss, rss2)
	}
}

// waits tells how long the scheduler lets a thread wait for a CPU, which the
// kernel counts when a wait ends.
type waits struct {
	file *os.File
	last time.Duration
}

func (w *waits) open(path string) (err error) {
	w.file, err = os.Open(path)
	w.since()
	return err
}

// since is how long the thread has waited since the last call; 0 if it has
// ended.
func (w *waits) since() time.Duration {
	var buf [64]byte
	n, _ := w.file.ReadAt(buf[:], 0)
	f := bytes.Fields(buf[:n])
	if len(f) != 3 {
		return 0
	}
	total, _ := strconv.ParseInt(string(f[1]), 10, 64)
	d := time.Duration(total) - w.last
	w.last = time.Duration(total)
	return d
}

// withheld measures the longest wait of a thread of p, until the returned
// function is called, which tells.
func (p *process) withheld() func() time.Duration {
	stop, worst := make(chan struct{}), make(chan time.Duration)
	go func() {
		var most time.Duration
		threads := map[string]*waits{}
		for {
			select {
			case <-stop:
				worst <- most
				return
			case <-time.After(10 * time.Millisecond):
			}
			files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
			for _, file := range files {
				if w := threads[file]; w != nil {
					most = max(most, w.since())
				} else if w := new(waits); w.open(file) == nil {
					threads[file] = w
				}
			}
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-worst
	}
}

func (c *container) timeline() string {
	return filepath.Join(scratch, fmt.Sprintf("timeline-%d", c.agent))
}

// reader is a load process in the cgroups of c, and in the namespaces of in,
// if that is not nil. It reads a file of container number.
func (c *container) reader(in *container, path string, number int, how, reads, pause string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	// Nice, so that what is measured is the server and not the scheduler.
	script := joining(c.cgroup) + "exec "
	of := path
	if in != nil {
		script += fmt.Sprintf("nsenter -t %d -m -p -- ", in.agent)
		of = fmt.Sprintf("/proc/%d/", in.agent)
	}
	agent := strings.Split(of, "/")[2]
	args := []string{"nice", self, path, strconv.Itoa(number), how, reads, filepath.Join(scratch, "timeline-"+agent), pause}
	cmd := exec.Command("sh", "-c", script+strings.Join(args, " "))
	cmd.Env = append(os.Environ(), "PODPROC_HELPER=load", "GOMAXPROCS=1", "GOGC=400")
	return cmd
}
