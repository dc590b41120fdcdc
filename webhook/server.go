// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/semaphore"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/podproc/podproc/webhook/inject"
)

// Reviews being read may have maxInFlight bytes together: reading one takes a
// few times its size. Each counts for at least leastReview, so 16 of usual ones
// are read at once and 2 of the largest, which no tenant can make run out of
// memory. Deciding takes microseconds: what waits does not wait for long.
const (
	maxInFlight   = 16 << 20
	leastReview   = 1 << 20
	largestReview = 7 << 20 // controller-runtime reads no more
)

// weight is what a review counts for; its length is -1 where it is not known.
func weight(length int64) int64 {
	if length < 0 {
		return largestReview
	}
	return min(max(length, leastReview), largestReview)
}

// longestRead is how long a review may take to arrive; the API server sends it in one go.
var longestRead = 5 * time.Second

// A Server serves admission requests.
type Server struct {
	Handler        *Handler
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Delay is how long the server goes on answering after it was told to end:
	// the time in which the cluster stops sending new connections here.
	Delay time.Duration
	Log   *slog.Logger

	draining atomic.Bool
}

// Draining reports whether the server was told to end.
func (s *Server) Draining() bool { return s.draining.Load() }

// lastRequests is how long requests in flight may take once the listener is
// closed; the API server gives up after 3 s.
const lastRequests = 5 * time.Second

// Serve answers on the listener until ctx ends and what is in flight is answered.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	handler, err := s.http()
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           handler,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: s.GetCertificate},
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       5 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), // handshakes that scanners and probes break off
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-served:
		return fmt.Errorf("serve admission requests: %w", err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	s.Log.Info("shutting down", "delay", s.Delay)
	select {
	case err := <-served:
		return fmt.Errorf("serve admission requests: %w", err)
	case <-time.After(s.Delay):
	}
	// Shutdown sends GOAWAY on every HTTP/2 connection and waits; a request that
	// crosses it has a higher number than the GOAWAY and is sent again by the client.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRequests)
	defer cancel()
	if err := server.Shutdown(last); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("shut down: %w", err)
	}
	return server.Close()
}

// http is the handler of all paths: what a request is about is in the request.
func (s *Server) http() (http.Handler, error) {
	reviews, err := admission.StandaloneWebhook(&admission.Webhook{
		Handler:        admission.HandlerFunc(s.handle),
		LogConstructor: logConstructor,
	}, admission.StandaloneOptions{Logger: logr.FromSlogHandler(s.Log.Handler())})
	if err != nil {
		return nil, fmt.Errorf("make admission handler: %w", err)
	}
	inFlight := semaphore.NewWeighted(maxInFlight)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			// On HTTP/2 this answers and then says GOAWAY.
			w.Header().Set("Connection", "close")
		}
		size := weight(r.ContentLength)
		if err := inFlight.Acquire(r.Context(), size); err != nil {
			return // nobody waits any more
		}
		defer inFlight.Release(size)
		// Who sends slowly must not keep others waiting. (A test's recorder has no deadlines.)
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(longestRead))
		s.Handler.Metrics.inFlight.Inc()
		defer s.Handler.Metrics.inFlight.Dec()
		read := false
		w.Header().Set("Content-Type", "application/json")
		reviews.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), readKey{}, &read)))
		if !read {
			s.Handler.Metrics.request("other", inject.Result{Outcome: inject.Failed, Reason: badReview}, 0)
		}
	}), nil
}

// readKey is the context key of the note that a review could be read.
type readKey struct{}

func (s *Server) handle(ctx context.Context, req admission.Request) admission.Response {
	if req.UID == "" {
		// Any JSON object passes for a review until here.
		return admission.Errored(http.StatusBadRequest, errors.New("the AdmissionReview has no request with a uid"))
	}
	if read, ok := ctx.Value(readKey{}).(*bool); ok {
		*read = true
	}
	return s.Handler.Handle(ctx, req)
}

// logConstructor keeps names of users out of the log; controller-runtime only logs
// reviews that it could not read.
func logConstructor(base logr.Logger, _ *admission.Request) logr.Logger { return base }
