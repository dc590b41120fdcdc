// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import "log/slog"

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
