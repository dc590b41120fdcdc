// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package logging writes the log of podproc's long-running processes, which
// share a disk with those whom the log is about: a pod that is hostile or sick
// can make the same thing happen over and over, and must not fill the disk or
// hide all else with it.
//
// So of each message, whatever its attributes, a number of lines is written
// as they come, and from then on one in an interval, the last one, whose
// attribute times says for how many it stands. Nothing is lost of messages
// below Info, which somebody has asked for.
package logging

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// budget is what one message may cost.
type budget struct {
	burst int           // lines as they come
	every time.Duration // a line after those
}

// budgetOf: each request is a line at Info in podproc-webhook, and a busy
// cluster has many.
func budgetOf(level slog.Level) budget {
	if level < slog.LevelWarn {
		return budget{1000, 100 * time.Millisecond}
	}
	return budget{10, 5 * time.Second}
}

const (
	maxText  = 8 << 10 // of one attribute: some are written by users
	maxKinds = 1000    // messages that are told apart
)

// New returns a logger that writes lines of at least that level.
func New(w io.Writer, level slog.Leveler) *slog.Logger {
	text := slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: clip})
	return slog.New(handler{text, &limiter{kinds: map[string]*kind{}}})
}

func clip(_ []string, a slog.Attr) slog.Attr {
	text := ""
	switch v := a.Value.Any().(type) {
	case string:
		text = v
	case error:
		text = v.Error()
	}
	if len(text) > maxText {
		a.Value = slog.StringValue(strings.ToValidUTF8(text[:maxText], "") + " [...]")
	}
	return a
}

// handler is a slog.Handler; those derived from one share its limits.
type handler struct {
	slog.Handler
	limiter *limiter
}

type limiter struct {
	mu    sync.Mutex // guards all of it
	kinds map[string]*kind
}

// kind is a message.
type kind struct {
	next time.Time // when it has its whole budget again, and an interval after each line more
	held int       // lines that were not written
	last slog.Record
	to   slog.Handler // for last
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo || h.limiter.pass(h.Handler, &r) {
		return h.Handler.Handle(ctx, r)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.limiter}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.limiter}
}

// pass tells whether r may be written now. Otherwise it is kept.
func (l *limiter) pass(to slog.Handler, r *slog.Record) bool {
	b, now := budgetOf(r.Level), time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kind(r, now)
	if k.held == 0 && k.next.Before(now.Add(time.Duration(b.burst)*b.every)) {
		k.spend(b, now)
		return true
	}
	if k.held++; k.held == 1 {
		time.AfterFunc(b.every, func() { _ = l.release(k, b) })
	}
	k.last, k.to = r.Clone(), to
	return false
}

func (k *kind) spend(b budget, now time.Time) {
	if k.next.Before(now) {
		k.next = now
	}
	k.next = k.next.Add(b.every)
}

// release writes a line for those that were held.
func (l *limiter) release(k *kind, b budget) error {
	l.mu.Lock()
	r, to := k.last, k.to
	r.AddAttrs(slog.Int("times", k.held))
	k.held, k.last, k.to = 0, slog.Record{}, nil
	k.spend(b, time.Now())
	l.mu.Unlock()
	return to.Handle(context.Background(), r)
}

// kind returns that of r. Libraries write numbers and addresses into their
// messages: what follows the first digit tells no messages apart.
func (l *limiter) kind(r *slog.Record, now time.Time) *kind {
	name, level := r.Message, slog.LevelInfo
	if i := strings.IndexAny(name, "0123456789"); i >= 0 {
		name = name[:i]
	}
	if r.Level >= slog.LevelWarn {
		level = slog.LevelWarn
	}
	name = level.String() + name
	if len(l.kinds) >= maxKinds && l.kinds[name] == nil {
		for name, k := range l.kinds {
			if k.held == 0 && k.next.Before(now) {
				delete(l.kinds, name)
			}
		}
		if len(l.kinds) >= maxKinds {
			name = level.String()
		}
	}
	k := l.kinds[name]
	if k == nil {
		k = new(kind)
		l.kinds[name] = k
	}
	return k
}
