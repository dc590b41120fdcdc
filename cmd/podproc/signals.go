// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Podproc run, podproc-init and CMD are in one process group, so that a
// pipeline, a script and job control work as if podproc were not there. What
// a terminal sends (^C, ^Z, hang-up) reaches all three, and what somebody
// sends to podproc run alone has to be passed on. Which of the two it was,
// podproc-init can tell: a signal that it has got itself CMD has got, too.

// passed tells which signals are passed on: all but those that mean something
// to this process itself, or that Go uses.
func passed(s unix.Signal) bool {
	switch s {
	case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE,
		unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGSYS, unix.SIGPROF:
		return false
	}
	// 32 and 33 are the C library's.
	return s > 0 && s < 65 && s != 32 && s != 33
}

// catch has the signals sent to this process delivered to the channel. Signals
// that the caller ignores (nohup) stay so, here and in CMD.
func catch() chan os.Signal {
	c := make(chan os.Signal, 64)
	for s := unix.Signal(1); s < 65; s++ {
		if passed(s) && !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	return c
}

// Of a signal to the process group, podproc-init may see its own copy this much
// later than podproc run tells of its: who is slower gets the signal twice, as
// if it had been sent twice. What podproc-init has seen and podproc run never
// tells of, was sent to podproc-init alone, and is forgotten.
const (
	together = 50 * time.Millisecond
	alone    = time.Second
)

// group matches the two copies of signals to the process group.
type group struct {
	mu   sync.Mutex
	seen map[unix.Signal][]time.Time // own copies that have no match yet
}

func (g *group) add(s unix.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen[s] = append(g.seen[s], time.Now())
}

// take tells whether there is an own copy of s, and takes it.
func (g *group) take(s unix.Signal) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.seen[s]) > 0 {
		at := g.seen[s][0]
		g.seen[s] = g.seen[s][1:]
		if time.Since(at) < alone {
			return true
		}
	}
	return false
}

// relay passes the signals that podproc run tells of to CMD, whose pid is cmd,
// but for those that the whole process group has got.
func relay(control *os.File, cmd int) {
	g := group{seen: map[unix.Signal][]time.Time{}}
	own := catch()
	go func() {
		for s := range own {
			g.add(s.(unix.Signal))
		}
	}()
	for {
		kind, payload, err := receive(control)
		if kind == 0 || err != nil {
			return // podproc run is gone, and we soon
		}
		if kind != packetSignal || len(payload) != 1 {
			continue
		}
		go func() {
			s := unix.Signal(payload[0])
			for range 10 {
				if g.take(s) {
					return
				}
				time.Sleep(together / 10)
			}
			_ = unix.Kill(cmd, s)
		}()
	}
}
