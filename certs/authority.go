// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	servertls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/cert-manager/cert-manager/pkg/util/pki"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
)

// Overlap is how long the caBundle has carried a new CA before a certificate from
// it is served: the time in which every API server learns of it. It
// also covers clocks that are apart by less, for a CA is valid from when it is made.
const Overlap = 10 * time.Second

// checkEvery is how often expired CAs are looked for and failed writes are tried again.
const checkEvery = 5 * time.Second

// A keypair is a CA that can sign.
type keypair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// An overlap is the authority that a DynamicSource signs with. The inner
// authority keeps the Secret; overlap signs with the CA in it once
// the API servers know it, and until then with the one before.
type overlap struct {
	inner  servertls.Authority
	secret *caSecret
	config *Configuration
	leaf   time.Duration // life of a serving certificate
	delay  time.Duration // Overlap
	log    *slog.Logger
	writes func(error) // told of every write of caBundle
	now    func() time.Time

	mu      sync.Mutex
	since   map[fingerprint]time.Time // when a CA was first seen in the caBundle
	signing *keypair                  // what Sign uses
	watches []chan<- struct{}
}

var _ servertls.Authority = (*overlap)(nil)

// Run keeps the Secret and the caBundle until ctx ends.
func (o *overlap) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if err := errors.Join(o.secret.onChange(wake), o.config.onChange(wake)); err != nil {
		return fmt.Errorf("watch CA: %w", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { o.secret.Start(ctx) })
	inner := make(chan error, 1)
	wg.Go(func() { inner <- o.inner.Run(ctx) })

	o.firstView(ctx)
	failed := newRepeats(o.log)
	for {
		next, err := o.reconcile(ctx)
		if ctx.Err() == nil {
			failed.note(err)
		}
		timer := time.NewTimer(next)
		select {
		case err := <-inner:
			timer.Stop()
			return err
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// firstView waits a moment for both objects, so that a start that goes well says nothing.
func (o *overlap) firstView(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkEvery)
	defer cancel()
	cache.WaitForCacheSync(ctx.Done(), o.secret.informer.HasSynced, o.config.informer.HasSynced)
}

// reconcile does what is due and returns when to look again if nothing happens before.
func (o *overlap) reconcile(ctx context.Context) (next time.Duration, err error) {
	secret, err := o.secret.get()
	switch {
	case apierrors.IsNotFound(err):
		// The inner authority may only update: give it something to update.
		return checkEvery, o.secret.create(ctx)
	case err != nil:
		return checkEvery, err
	}
	if len(secret.Data) == 0 {
		return checkEvery, nil // the inner authority is about to fill it
	}
	current, err := parseKeypair(secret)
	if err != nil {
		// The inner authority is about to replace it; what is served goes on.
		return checkEvery, fmt.Errorf("read CA from Secret %s: %w", o.secret, err)
	}
	config, err := o.config.get()
	if err != nil {
		return checkEvery, err
	}
	wanted := []*x509.Certificate{current.cert}
	if s := o.signer(); s != nil {
		wanted = append(wanted, s.cert)
	}
	wrote, err := o.config.carry(ctx, config, wanted, o.now())
	if wrote || err != nil && !apierrors.IsConflict(err) {
		o.writes(err)
	}
	if apierrors.IsConflict(err) {
		err = nil // another replica was first; its write is on its way here
	}
	return o.settle(current, carried(config)), err
}

func (o *overlap) signer() *keypair {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.signing
}

// settle goes over to the current CA if the API servers have carried it for
// long enough, and returns when to look again.
func (o *overlap) settle(current *keypair, seen []*x509.Certificate) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	since := make(map[fingerprint]time.Time, len(seen))
	for _, ca := range seen {
		p := printOf(ca)
		since[p] = now
		if t, ok := o.since[p]; ok {
			since[p] = t
		}
	}
	o.since = since
	if o.signing != nil && o.signing.cert.Equal(current.cert) {
		return checkEvery
	}
	t, ok := since[printOf(current.cert)]
	if !ok {
		return checkEvery
	}
	// The very first CA, or the only one left: there is nothing to serve meanwhile.
	alone := len(seen) == 1 && (o.signing == nil || now.After(o.signing.cert.NotAfter))
	if wait := t.Add(o.delay).Sub(now); wait > 0 && !alone {
		return min(wait, checkEvery)
	}
	o.signing = current
	o.log.Info("serving certificates come from a new CA", "ca", current.cert.Subject.CommonName, "serial", current.cert.SerialNumber.String(), "notAfter", current.cert.NotAfter)
	for _, ch := range o.watches {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
	return checkEvery
}

// WatchRotation has ch told when Sign starts to use another CA.
func (o *overlap) WatchRotation(ch chan<- struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watches = append(o.watches, ch)
}

// StopWatchingRotation ends what WatchRotation began.
func (o *overlap) StopWatchingRotation(ch chan<- struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watches = slices.DeleteFunc(o.watches, func(c chan<- struct{}) bool { return c == ch })
}

// Sign signs a serving certificate with the CA that the API servers know.
//
// It is valid from a little before now, for clocks that are behind, but by no
// more than a tenth of its life: DynamicSource renews it at two thirds.
func (o *overlap) Sign(template *x509.Certificate) (*x509.Certificate, error) {
	ca, now := o.signer(), o.now()
	if ca == nil || !now.Before(ca.cert.NotAfter) {
		return nil, authority.ErrCertificateNotAvailable
	}
	template.BasicConstraintsValid = true
	template.NotBefore = now.Add(-min(5*time.Minute, o.leaf/10))
	template.NotAfter = now.Add(o.leaf)
	if template.NotAfter.After(ca.cert.NotAfter) {
		template.NotAfter = ca.cert.NotAfter
	}
	_, cert, err := pki.SignCertificate(template, ca.cert, template.PublicKey, ca.key)
	return cert, err
}

// parseKeypair takes the CA from a Secret, with the checks that tell a spoiled one.
func parseKeypair(secret *corev1.Secret) (*keypair, error) {
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key of type %T cannot sign", pair.PrivateKey)
	}
	if !pair.Leaf.IsCA {
		return nil, errors.New("certificate is not a CA")
	}
	return &keypair{cert: pair.Leaf, key: key}, nil
}
