// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// readers is the helper: it reads in a container until that ends, and tells in
// a file what it has seen. args are the file and the MemTotal that is right.
func readers(args []string) error {
	want, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	r := &readerTally{want: []byte(fmt.Sprintf("MemTotal:%15d kB\n", want))}
	for i := range teamReaders {
		go r.loop(i%2 == 0, i%4 < 2)
	}
	go func() {
		for {
			start := time.Now()
			time.Sleep(time.Millisecond)
			raise(&r.late, int64(time.Since(start)-time.Millisecond))
		}
	}()
	for ; ; time.Sleep(20 * time.Millisecond) {
		b, err := json.Marshal(r.tally())
		if err == nil {
			err = os.WriteFile(args[0]+".new", b, 0o644)
		}
		if err == nil {
			err = os.Rename(args[0]+".new", args[0])
		}
		if err != nil {
			return err
		}
	}
}

type readerTally struct {
	want []byte

	reads, failed, slow, wrong, longest, late atomic.Int64

	mu     sync.Mutex
	sample string
}

func (r *readerTally) tally() tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	failed := r.failed.Load() // before slow, which is raised first
	return tally{r.reads.Load(), failed, r.slow.Load(), r.wrong.Load(), time.Duration(r.longest.Load()), time.Duration(r.late.Load()), r.sample}
}

func raise(v *atomic.Int64, to int64) {
	for old := v.Load(); to > old && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}

func (r *readerTally) note(count *atomic.Int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sample = err.Error()
	count.Add(1)
}

var errWrong = errors.New("not the truth")

// loop reads meminfo, or stat, with a descriptor that is kept open, or not.
func (r *readerTally) loop(stat, keep bool) {
	path, check := "/proc/meminfo", r.meminfo
	if stat {
		path, check = "/proc/stat", new(cpuTimes).check
	}
	var file *os.File
	buf := make([]byte, 64<<10)
	pause := 20 * time.Millisecond
	if soak {
		pause = 2 * time.Millisecond
	}
	for ; ; time.Sleep(pause) {
		start := time.Now()
		text, err := []byte(nil), error(nil)
		if file == nil {
			file, err = os.Open(path)
		}
		if err == nil {
			var n int
			n, err = unix.Pread(int(file.Fd()), buf, 0)
			text = buf[:max(n, 0)]
		}
		raise(&r.longest, int64(time.Since(start)))
		if err == nil {
			err = check(text)
		}
		switch {
		case errors.Is(err, errWrong):
			r.note(&r.wrong, err)
		case err != nil:
			if !keep && time.Since(start) > 200*time.Millisecond {
				r.slow.Add(1)
			}
			r.note(&r.failed, fmt.Errorf("%s: %w", path, err))
		default:
			r.reads.Add(1)
		}
		if file != nil && (!keep || err != nil) {
			file.Close()
			file = nil
		}
	}
}

func (r *readerTally) meminfo(text []byte) error {
	if !bytes.HasPrefix(text, r.want) {
		return fmt.Errorf("meminfo begins with %.40q: %w", text, errWrong)
	}
	return nil
}

// cpuTimes are the counters of the first line of stat.
type cpuTimes struct{ last []int64 }

// check makes sure that no counter goes backwards.
func (c *cpuTimes) check(text []byte) error {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 8 || fields[0] != "cpu" {
		return fmt.Errorf("stat begins with %.40q: %w", text, errWrong)
	}
	var now []int64
	for _, f := range fields[1:] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return fmt.Errorf("stat begins with %.40q: %w", text, errWrong)
		}
		now = append(now, n)
	}
	last := c.last
	c.last = now
	if len(last) == len(now) && backwards(last, now) {
		return fmt.Errorf("stat went from %v to %v: %w", last, now, errWrong)
	}
	return nil
}

func backwards(from, to []int64) bool {
	for i := range from {
		if to[i] < from[i] {
			return true
		}
	}
	return false
}
