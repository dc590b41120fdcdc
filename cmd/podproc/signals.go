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

// together is how far apart two processes may see a signal to their group.
// Who is slower gets it twice, as if it had been sent twice.
const together = 50 * time.Millisecond

// relay passes the signals that podproc run tells of to CMD, whose pid is cmd,
// but for those that the whole process group has got.
func relay(control *os.File, cmd int) {
	var (
		mu   sync.Mutex
		seen = map[unix.Signal]time.Time{}
	)
	own := catch()
	go func() {
		for s := range own {
			mu.Lock()
			seen[s.(unix.Signal)] = time.Now()
			mu.Unlock()
		}
	}()
	group := func(s unix.Signal, since time.Time) bool {
		mu.Lock()
		defer mu.Unlock()
		return seen[s].After(since)
	}
	for {
		kind, payload, err := receive(control)
		if kind == 0 && err == nil || err != nil {
			return // podproc run is gone, and we soon
		}
		if kind != packetSignal || len(payload) != 1 {
			continue
		}
		s := unix.Signal(payload[0])
		go func() {
			since := time.Now().Add(-together)
			for range 10 {
				if group(s, since) {
					return
				}
				time.Sleep(together / 10)
			}
			_ = unix.Kill(cmd, s)
		}()
	}
}
