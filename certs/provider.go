// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	servertls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// A Provider provides the serving certificate.
type Provider struct {
	config *Configuration
	name   string
	get    func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	why    func() error // why there is no certificate, if that is known
	starts []func(context.Context) error
}

// GetCertificate is for tls.Config.
func (p *Provider) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, err := p.get(hello)
	if err == nil && cert == nil {
		err = errors.New("no serving certificate yet")
	}
	return cert, err
}

// Start keeps the certificate until ctx ends. An error is final.
func (p *Provider) Start(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, start := range p.starts {
		group.Go(func() error { return start(ctx) })
	}
	return group.Wait()
}

// Ready reports why the API server cannot call this server, going by the
// certificate that it serves and the caBundle in the configuration.
func (p *Provider) Ready() error {
	cert, err := p.GetCertificate(nil)
	if err != nil {
		if why := p.why(); why != nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
		return err
	}
	return p.config.Verify(cert, p.name, time.Now())
}

// NotAfter is when the certificate being served expires; zero if there is none.
func (p *Provider) NotAfter() time.Time {
	cert, err := p.GetCertificate(nil)
	if err != nil {
		return time.Time{}
	}
	leaf, err := parsedLeaf(cert)
	if err != nil {
		return time.Time{}
	}
	return leaf.NotAfter
}

// The shortest lives. A CA is renewed at two thirds of its life and must outlive the
// overlap with the next one; DynamicAuthority looks every 10 s.
const (
	minCALife   = 9 * Overlap
	minLeafLife = 3 * Overlap
)

// Builtin says where the built-in certificates live.
type Builtin struct {
	Client        kubernetes.Interface
	REST          *rest.Config // for cert-manager's DynamicAuthority, which makes its own client
	Configuration *Configuration
	Namespace     string // of the Secret
	Secret        string
	Name          string        // DNS name of the server
	CALife        time.Duration // default: 365 days
	LeafLife      time.Duration // default: 7 days
	Wrote         func(error)   // called after each write of caBundle, if not nil
	Log           *slog.Logger
}

// NewBuiltin returns a Provider whose CA is in a Secret and whose caBundle is
// kept current.
func NewBuiltin(b Builtin) (*Provider, error) {
	if b.CALife == 0 {
		b.CALife = 365 * 24 * time.Hour
	}
	if b.LeafLife == 0 {
		b.LeafLife = 7 * 24 * time.Hour
	}
	if b.CALife < minCALife || b.LeafLife < minLeafLife || b.LeafLife > b.CALife {
		return nil, fmt.Errorf("CA life %s and certificate life %s: want at least %s and %s, and the certificate's no longer than the CA's",
			b.CALife, b.LeafLife, minCALife, minLeafLife)
	}
	if b.Wrote == nil {
		b.Wrote = func(error) {}
	}
	source := &servertls.DynamicSource{
		DNSNames: []string{b.Name},
		Authority: &overlap{
			inner: &authority.DynamicAuthority{
				SecretNamespace: b.Namespace,
				SecretName:      b.Secret,
				RESTConfig:      b.REST,
				CommonName:      "podproc-webhook-ca",
				CADuration:      b.CALife,
				LeafDuration:    b.LeafLife,
			},
			secret: newCASecret(b.Client, b.Namespace, b.Secret),
			config: b.Configuration,
			leaf:   b.LeafLife,
			delay:  Overlap,
			log:    b.Log,
			writes: b.Wrote,
			now:    time.Now,
		},
	}
	// What cert-manager's code says each time it tries again is for debugging.
	logger := logr.FromSlogHandler(expected{b.Log.Handler()}).V(4)
	return &Provider{
		config: b.Configuration,
		name:   b.Name,
		get:    source.GetCertificate,
		why: func() error {
			return fmt.Errorf("waiting for a CA in Secret %s/%s and in the caBundle", b.Namespace, b.Secret)
		},
		starts: []func(context.Context) error{
			b.Configuration.Start,
			func(ctx context.Context) error { return source.Start(logr.NewContext(ctx, logger)) },
		},
	}, nil
}

// NewFiles returns a Provider that serves tls.crt and tls.key of a directory
// and reads them again when they change.
func NewFiles(dir, name string, configuration *Configuration, log *slog.Logger) *Provider {
	f := &files{cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key"), log: log}
	return &Provider{
		config: configuration,
		name:   name,
		get:    f.GetCertificate,
		why:    f.why,
		starts: []func(context.Context) error{configuration.Start, f.Start},
	}
}
