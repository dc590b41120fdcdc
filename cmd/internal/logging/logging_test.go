// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a pod does over and over costs a line in five seconds, and the lines
// that are written say how many there were.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := New(&out, slog.LevelInfo)
		const floods = 100 * 60 // a minute
		for i := range floods {
			log.Warn("a request is overdue", "node", i)
			time.Sleep(10 * time.Millisecond)
		}
		log.Warn("something else")
		log.With("a", 1).WithGroup("g").Warn("a request is overdue", "node", "last")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		text := out.String()
		if n := strings.Count(text, "overdue"); n > 10+60/5+1 {
			t.Errorf("%d lines in a minute:\n%s", n, text)
		}
		if got := count(t, text, "overdue"); got != floods+1 {
			t.Errorf("the lines stand for %d messages, want %d:\n%s", got, floods+1, text)
		}
		if !strings.Contains(text, "something else") || !strings.Contains(text, "g.node=last") {
			t.Errorf("what is rare is missing:\n%s", text)
		}
		// After a while all is as at first.
		time.Sleep(time.Minute)
		out.Reset()
		for range 10 {
			log.Warn("a request is overdue")
		}
		if n := strings.Count(out.String(), "overdue"); n != 10 {
			t.Errorf("%d lines of 10 after a minute of silence", n)
		}
	})
}

// count adds up for how many messages the lines with that word stand.
func count(t *testing.T, text, word string) (n int) {
	for line := range strings.Lines(text) {
		if !strings.Contains(line, word) {
			continue
		}
		times := 1
		if _, after, ok := strings.Cut(line, "times="); ok {
			if _, err := fmt.Sscan(after, &times); err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
		n += times
	}
	return n
}

// A rollout of many pods is told of in full; somebody who talks to the webhook
// for ever does not fill the disk.
func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := New(&out, slog.LevelDebug)
		for range 1000 {
			log.Info("admission")
		}
		if n := strings.Count(out.String(), "\n"); n != 1000 {
			t.Errorf("%d lines of a thousand pods", n)
		}
		for range 60 * 1000 {
			log.Info("admission")
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := strings.Count(out.String(), "\n"); n > 1000+61*10 {
			t.Errorf("%d lines in a minute", n)
		}
		if n := count(t, out.String(), "admission"); n != 61*1000 {
			t.Errorf("the lines stand for %d messages, want %d", n, 61*1000)
		}
		out.Reset()
		for range 5000 {
			log.Debug("asked for")
		}
		if n := strings.Count(out.String(), "\n"); n != 5000 {
			t.Errorf("%d lines of 5000 that were asked for", n)
		}
	})
}

// Messages of libraries with addresses in them are of one kind, and however
// many kinds there are, what is remembered of them is bounded.
func TestKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := New(&out, slog.LevelInfo)
		for i := range 100 {
			log.Error(fmt.Sprintf("handshake with 10.0.0.%d: EOF", i))
		}
		if n := strings.Count(out.String(), "\n"); n != 10 {
			t.Errorf("%d lines of 100 of one kind", n)
		}
		for i := range 10 * maxKinds {
			log.Error(strings.Repeat("x", i))
		}
		if n := len(log.Handler().(handler).limiter.kinds); n > maxKinds+2 {
			t.Errorf("%d kinds are remembered", n)
		}
		if n := strings.Count(out.String(), "\n"); n > maxKinds+100 {
			t.Errorf("%d lines of ever new kinds", n)
		}
		time.Sleep(time.Hour)
		log.Error("new")
		if n := len(log.Handler().(handler).limiter.kinds); n > 2 {
			t.Errorf("%d kinds are remembered after an hour", n)
		}
		if !strings.Contains(out.String(), "msg=new") {
			t.Error("a new kind is missing")
		}
	})
}

// A name that a user has made very long does not become a line of that length.
func TestLongText(t *testing.T) {
	var out bytes.Buffer
	log := New(&out, slog.LevelInfo)
	long := strings.Repeat("ä", 1<<20)
	log.Info("admission", "name", long, "err", errors.New(long), "n", 5)
	if n := out.Len(); n > 3*maxText || n < 2*maxText || !strings.Contains(out.String(), "n=5") {
		t.Errorf("a line of %d bytes", n)
	}
}
