// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"log/slog"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// A repeats logs an error once for as long as it stays the same, and its end.
type repeats struct {
	log  *slog.Logger
	last string
}

func newRepeats(log *slog.Logger) *repeats { return &repeats{log: log} }

func (r *repeats) note(err error) {
	switch {
	case err == nil && r.last != "":
		r.last = ""
		r.log.Info("certificate authority is in order again")
	case err != nil && err.Error() != r.last:
		r.last = err.Error()
		r.log.Warn("certificate authority is not in order, trying again", "err", err)
	}
}

// An expected is a handler for DynamicAuthority's log. Two of its errors are how
// replicas work together, and for debugging only: that it may not POST a deleted
// Secret (podproc applies an empty one), and that another replica was first.
type expected struct{ slog.Handler }

// Handle implements slog.Handler.
func (e expected) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		if ok && (apierrors.IsConflict(err) || apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot create")) {
			r.Level = slog.LevelDebug
		}
		return true
	})
	if !e.Enabled(ctx, r.Level) {
		return nil
	}
	return e.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (e expected) WithAttrs(attrs []slog.Attr) slog.Handler {
	return expected{e.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (e expected) WithGroup(name string) slog.Handler { return expected{e.Handler.WithGroup(name)} }
