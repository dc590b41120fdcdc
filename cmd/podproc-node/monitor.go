// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/podproc/podproc/fusefs"
	"github.com/podproc/podproc/fusefs/takeover"
)

// monitor tells over HTTP how this process does: /metrics, /readyz (it does
// its job, or says in one line why not) and /healthz (it is not stuck).
type monitor struct {
	registry *prometheus.Registry
	fs       atomic.Pointer[fusefs.FS] // nil: nothing is known yet

	active                         atomic.Bool // this process serves
	takeovers                      map[takeover.Cause]*atomic.Uint64
	repaired, unrepaired, replayed atomic.Uint64

	mu       sync.Mutex
	notReady error // nil: ready

	looked atomic.Int64 // Unix time in ns of the last look at ourselves that succeeded
}

// stuck is how long no look at ourselves may succeed before /healthz fails.
// It is long: a killed server costs more than a slow one.
const stuck = time.Minute

func newMonitor() *monitor {
	m := &monitor{registry: prometheus.NewRegistry(), notReady: errors.New("starting"), takeovers: map[takeover.Cause]*atomic.Uint64{}}
	m.looked.Store(time.Now().UnixNano())
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gauge("podproc_build_info", "Always 1; the version is the label.", prometheus.Labels{"version": version}, func() float64 { return 1 })
	m.gauge("podproc_active", "1 if this process serves, 0 if it stands by.", nil, func() float64 {
		if m.active.Load() {
			return 1
		}
		return 0
	})
	// From the start and by all causes: of what is not there yet an increase
	// cannot be seen.
	for _, cause := range []takeover.Cause{takeover.First, takeover.HandedOver, takeover.Died, takeover.Silent} {
		n := new(atomic.Uint64)
		m.takeovers[cause] = n
		m.counter("podproc_takeovers_total", "Connections that this process has begun to serve, by cause.", prometheus.Labels{"cause": string(cause)}, n)
	}
	m.counter("podproc_replayed_requests_total", "Requests answered that the process before had left.", nil, &m.replayed)
	m.counter("podproc_repaired_mounts_total", "Mounts in running containers that were dead, or the kernel's, and show their container again.", nil, &m.repaired)
	m.counter("podproc_failed_repairs_total", "Mounts in running containers that could not be repaired, each time that it was tried; the log names them.", nil, &m.unrepaired)
	return m
}

// watch begins to tell of fs.
func (m *monitor) watch(fs *fusefs.FS) {
	m.fs.Store(fs)
	for name, c := range map[string]struct {
		help  string
		value *atomic.Uint64
	}{
		"podproc_refreshes_total":     {"Snapshots of files rendered.", &fs.Stats.Refreshes},
		"podproc_stale_reads_total":   {"Reads answered with the last snapshot, since no new one could be had.", &fs.Stats.Stale},
		"podproc_read_errors_total":   {"Reads that failed.", &fs.Stats.Errors},
		"podproc_owned_inodes_total":  {"Mounts that found their container.", &fs.Stats.Owned},
		"podproc_unseen_reads_total":  {"Requests of readers outside of this pid namespace.", &fs.Stats.Unseen},
		"podproc_overdue_reads_total": {"Requests that took longer than the deadline.", &fs.Stats.Overdue},
		"podproc_panics_total":        {"Requests that made a handler panic.", &fs.Stats.Panics},
	} {
		m.counter(name, c.help, nil, c.value)
	}
	m.gauge("podproc_containers", "Containers whose files are served.", nil, func() float64 { return float64(fs.Containers()) })
}

// leads begins to tell of what a process has taken over and looks after.
func (m *monitor) leads(l *takeover.Lead, cause takeover.Cause, since time.Time) {
	m.active.Store(true)
	m.takeovers[cause].Add(1)
	m.gauge("podproc_peers", "Processes that hold the connection and could serve instead of this one.", nil, func() float64 { return float64(l.Peers()) })
	m.gauge("podproc_connection_age_seconds", "Time since the file system was mounted.", nil, func() float64 { return time.Since(since).Seconds() })
}

func (m *monitor) counter(name, help string, labels prometheus.Labels, value *atomic.Uint64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(value.Load()) }))
}

func (m *monitor) gauge(name, help string, labels prometheus.Labels, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
}

// setReady makes /readyz succeed, or fail with err.
func (m *monitor) setReady(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notReady = err
}

// serve answers on addr until ctx ends; an empty addr serves nobody.
func (m *monitor) serve(ctx context.Context, addr string, log *slog.Logger) error {
	go m.look(ctx, log)
	if addr == "" {
		return nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("serve metrics on %s: %w: choose another with --metrics-addr", addr, err)
	}
	s := &http.Server{Handler: m.handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	go func() {
		<-ctx.Done()
		s.Close()
	}()
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are served no more", "error", err)
		}
	}()
	return nil
}

func (m *monitor) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	answer := func(w http.ResponseWriter, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		answer(w, m.notReady)
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, m.health()) })
	return mux
}

// look renders a file for ourselves now and then, on the way that a request
// takes, without one.
func (m *monitor) look(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(stuck / 12)
	defer tick.Stop()
	for {
		if fs := m.fs.Load(); fs == nil {
			m.looked.Store(time.Now().UnixNano())
		} else if _, err := fs.Text("proc/meminfo", uint32(os.Getpid())); err != nil {
			log.Warn("a look at ourselves failed", "error", err)
		} else {
			m.looked.Store(time.Now().UnixNano())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// health fails if no look has succeeded for long.
func (m *monitor) health() error {
	if age := time.Since(time.Unix(0, m.looked.Load())); age > stuck {
		return fmt.Errorf("stuck: no file could be rendered for %s", age.Round(time.Second))
	}
	return nil
}
