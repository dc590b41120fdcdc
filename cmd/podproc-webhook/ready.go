// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"
)

// readiness answers /readyz, and logs each change once.
type readiness struct {
	check func() error
	log   *slog.Logger

	mu   sync.Mutex
	said *string // nil: nothing yet; "": ready
}

func (r *readiness) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	err := r.check()
	text := ""
	if err != nil {
		text = err.Error()
	}
	r.mu.Lock()
	changed := r.said == nil || *r.said != text
	r.said = &text
	r.mu.Unlock()
	switch {
	case !changed:
	case err != nil:
		r.log.Warn("not ready", "err", err)
	default:
		r.log.Info("ready")
	}
	if err != nil {
		http.Error(w, text, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}
