// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bound is the age from which podproc renders anew, with something to spare.
const bound = 130 * time.Millisecond

// plan tells a reader what to do: it joins a container, binds each source over
// a file in a mount namespace of its own, as a runtime does, and reads.
type plan struct {
	Join    []string
	Sources []string
	Dir     string // for the files that sources are bound over

	// Latencies of each source:
	Rounds, Reads, Stale int

	// Or all sources, once every Every until stdin ends, or once.
	Every  time.Duration
	Repeat bool
}

// latencies are those of one source, in ns.
type latencies struct {
	Open  []int64 // open, read, read to the end, close
	Held  []int64 // pread of a descriptor that is kept
	Stale []int64 // Open, after the bound has passed
}

// startReader starts a reader; its results come on stdout.
func (b *bench) startReader(p plan, cpu int) (*exec.Cmd, io.WriteCloser, io.Reader, error) {
	p.Dir = b.dir
	text, err := json.Marshal(p)
	if err != nil {
		return nil, nil, nil, err
	}
	cmd := exec.CommandContext(b.ctx, "/proc/self/exe", string(text))
	cmd.Env = append(os.Environ(), roleEnv+"=reader", "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	return cmd, stdin, stdout, startOn(cmd, cpu)
}

func reader() error {
	runtime.LockOSThread()
	var p plan
	if err := json.Unmarshal([]byte(os.Args[1]), &p); err != nil {
		return err
	}
	if err := join(p.Join); err != nil {
		return err
	}
	paths, err := bind(p)
	if err != nil {
		return err
	}
	if p.Rounds > 0 {
		result, err := measure(p, paths)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	}
	return loop(p, paths)
}

// bind enters a mount namespace and binds the sources in it.
func bind(p plan) ([]string, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, err
	}
	paths := make([]string, len(p.Sources))
	for i, source := range p.Sources {
		paths[i] = filepath.Join(p.Dir, fmt.Sprint("file-", i))
		if err := unix.Mount(source, paths[i], "", unix.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("bind %s: %w", source, err)
		}
	}
	return paths, nil
}

var buffer [256 << 10]byte

// readFile is what cat does: open, read, read to the end, close.
func readFile(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	n, err := unix.Read(fd, buffer[:])
	if err == nil && n > 0 {
		_, err = unix.Read(fd, buffer[n:])
	}
	unix.Close(fd)
	if err != nil || n == 0 {
		return fmt.Errorf("read %s: %d bytes, %w", path, n, err)
	}
	return nil
}

// measure takes the sources in turn, in another order each time.
func measure(p plan, paths []string) ([]latencies, error) {
	result := make([]latencies, len(paths))
	held := make([]int, len(paths))
	for i, path := range paths {
		var err error
		if held[i], err = unix.Open(path, unix.O_RDONLY, 0); err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
	}
	for range p.Rounds {
		for _, i := range rand.Perm(len(paths)) {
			for range p.Reads {
				took, err := timed(func() error { return readFile(paths[i]) })
				if err != nil {
					return nil, err
				}
				result[i].Open = append(result[i].Open, took)
			}
			for range p.Reads {
				took, err := timed(func() error { _, err := unix.Pread(held[i], buffer[:], 0); return err })
				if err != nil {
					return nil, err
				}
				result[i].Held = append(result[i].Held, took)
			}
		}
	}
	for range p.Stale {
		for _, i := range rand.Perm(len(paths)) {
			time.Sleep(bound)
			took, err := timed(func() error { return readFile(paths[i]) })
			if err != nil {
				return nil, err
			}
			result[i].Stale = append(result[i].Stale, took)
		}
	}
	return result, nil
}

func timed(do func() error) (int64, error) {
	start := time.Now()
	err := do()
	return time.Since(start).Nanoseconds(), err
}

// loop reads all paths until stdin ends. It starts at a time of its own within
// the interval, as containers do.
func loop(p plan, paths []string) error {
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(ended) }()
	next := time.Now()
	if p.Repeat {
		next = next.Add(time.Duration(rand.Int64N(int64(p.Every) + 1)))
	}
	for {
		select {
		case <-ended:
			return nil
		case <-time.After(time.Until(next)):
		}
		for _, path := range paths {
			if err := readFile(path); err != nil {
				return err
			}
		}
		if !p.Repeat {
			return nil
		}
		next = next.Add(p.Every)
	}
}
