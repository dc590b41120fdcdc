// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// files serves a certificate from files. They may come later than the process.
type files struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	watcher *certwatcher.CertWatcher
	err     error
}

// GetCertificate is for tls.Config; nil while there is none.
func (f *files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	watcher := f.watcher
	f.mu.Unlock()
	if watcher == nil {
		return nil, nil
	}
	return watcher.GetCertificate(hello)
}

func (f *files) why() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Start waits for the files and then watches them until ctx ends.
func (f *files) Start(ctx context.Context) error {
	said := ""
	for {
		watcher, err := certwatcher.New(f.cert, f.key)
		f.mu.Lock()
		f.watcher, f.err = watcher, err
		f.mu.Unlock()
		if err == nil {
			return watcher.Start(ctx)
		}
		if said != err.Error() {
			said = err.Error()
			f.log.Warn("serving certificate cannot be read, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}
