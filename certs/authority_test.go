// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// bench is an overlap on a fake API server, at a time that the test says.
type bench struct {
	*overlap
	t      *testing.T
	client *fake.Clientset
	clock  time.Time
	wrote  int
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, client: fake.NewClientset(), clock: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	b.overlap = &overlap{
		secret: newCASecret(b.client, "podproc", "ca"),
		config: NewConfiguration(b.client, "podproc"),
		leaf:   time.Hour,
		delay:  Overlap,
		log:    slog.New(slog.DiscardHandler),
		writes: func(error) { b.wrote++ },
		now:    func() time.Time { return b.clock },
	}
	configuration := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "podproc"}}
	for _, name := range []string{"pods.podproc.io", "workloads.podproc.io"} {
		configuration.Webhooks = append(configuration.Webhooks, admissionv1.MutatingWebhook{Name: name})
	}
	b.configure(configuration)
	b.caIs(nil)
	for _, informer := range []interface {
		RunWithContext(context.Context)
		HasSynced() bool
	}{b.secret.informer, b.config.informer} {
		go informer.RunWithContext(t.Context())
		b.until("informer synced", informer.HasSynced)
	}
	return b
}

func (b *bench) until(what string, f func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: not within a minute", what)
		}
	}
}

func (b *bench) configure(c *admissionv1.MutatingWebhookConfiguration) {
	b.t.Helper()
	if err := b.client.Tracker().Add(c); err != nil {
		b.t.Fatal(err)
	}
}

// caIs sets the Secret's data and waits until the overlap sees it.
func (b *bench) caIs(data map[string][]byte) {
	b.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "podproc", Name: "ca"}, Data: data}
	if data == nil {
		if err := b.client.Tracker().Add(secret); err != nil {
			b.t.Fatal(err)
		}
		return
	}
	if err := b.client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("secrets"), secret, "podproc"); err != nil {
		b.t.Fatal(err)
	}
	b.until("Secret seen", func() bool {
		got, err := b.secret.get()
		return err == nil && string(got.Data[corev1.TLSCertKey]) == string(data[corev1.TLSCertKey])
	})
}

// step reconciles until nothing more is written, and returns when it wants to look again.
func (b *bench) step() time.Duration {
	b.t.Helper()
	for range 5 {
		wrote := b.wrote
		next, err := b.reconcile(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		if b.wrote == wrote {
			return next
		}
		stored, err := b.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(b.t.Context(), "podproc", metav1.GetOptions{})
		if err != nil {
			b.t.Fatal(err)
		}
		b.until("configuration seen", func() bool {
			seen, err := b.config.get()
			return err == nil && string(seen.Webhooks[0].ClientConfig.CABundle) == string(stored.Webhooks[0].ClientConfig.CABundle)
		})
	}
	b.t.Fatal("it writes again and again")
	return 0
}

func (b *bench) sign() (*x509.Certificate, error) {
	b.t.Helper()
	pair, _ := newCA(b.t, b.clock, b.clock.Add(time.Hour)) // any key
	return b.Sign(&x509.Certificate{PublicKeyAlgorithm: x509.ECDSA, PublicKey: pair.key.Public(), DNSNames: []string{"a"}})
}

// signedBy reports whether Sign uses that CA.
func (b *bench) signedBy(ca *keypair) bool {
	b.t.Helper()
	cert, err := b.sign()
	if err != nil {
		b.t.Fatal(err)
	}
	return cert.CheckSignatureFrom(ca.cert) == nil
}

// carries are the CAs in every caBundle.
func (b *bench) carries(want ...*keypair) {
	b.t.Helper()
	config, err := b.config.get()
	if err != nil {
		b.t.Fatal(err)
	}
	got := carried(config)
	if len(got) != len(want) {
		b.t.Fatalf("caBundle carries %d CAs, want %d", len(got), len(want))
	}
	for i := range want {
		if !got[i].Equal(want[i].cert) {
			b.t.Errorf("caBundle: CA %d is another", i)
		}
	}
}

func TestOverlap(t *testing.T) {
	b := newBench(t)
	rotated := make(chan struct{}, 1)
	b.WatchRotation(rotated)
	told := func() bool {
		select {
		case <-rotated:
			return true
		default:
			return false
		}
	}

	b.step() // an empty Secret is about to be filled
	if _, err := b.sign(); !errors.Is(err, authority.ErrCertificateNotAvailable) {
		t.Errorf("Sign without a CA: %v, want ErrCertificateNotAvailable", err)
	}

	first, data := newCA(t, b.clock, b.clock.Add(30*time.Hour))
	b.caIs(data)
	b.step()
	b.carries(first)
	if !told() || !b.signedBy(first) {
		t.Error("the first CA is not used at once, though there is nothing else")
	}

	b.clock = b.clock.Add(20 * time.Hour)
	second, data := newCA(t, b.clock, b.clock.Add(30*time.Hour))
	b.caIs(data)
	if next := b.step(); next <= 0 || next > Overlap {
		t.Errorf("looks again in %s, want within %s", next, Overlap)
	}
	b.carries(first, second)
	b.clock = b.clock.Add(Overlap - time.Millisecond)
	b.step()
	if told() || !b.signedBy(first) {
		t.Error("the second CA is used before every API server can know it")
	}
	b.clock = b.clock.Add(time.Millisecond)
	b.step()
	if !told() || !b.signedBy(second) {
		t.Error("the second CA is not used after the overlap")
	}
	b.carries(first, second)

	b.clock = b.clock.Add(11 * time.Hour) // the first expires
	b.step()
	b.carries(second)
	if told() || !b.signedBy(second) {
		t.Error("the second CA is not used any more")
	}
}

// What somebody takes out of the caBundle comes back: the CA in the Secret, and the one
// whose certificates are being served.
func TestBundleIsRestored(t *testing.T) {
	b := newBench(t)
	first, data := newCA(t, b.clock, b.clock.Add(30*time.Hour))
	b.caIs(data)
	b.step()
	second, data := newCA(t, b.clock.Add(time.Minute), b.clock.Add(30*time.Hour))
	b.caIs(data)
	b.step()
	config, err := b.config.get()
	if err != nil {
		t.Fatal(err)
	}
	wiped := config.DeepCopy()
	for i := range wiped.Webhooks {
		wiped.Webhooks[i].ClientConfig.CABundle = nil
	}
	if err := b.client.Tracker().Update(admissionv1.SchemeGroupVersion.WithResource("mutatingwebhookconfigurations"), wiped, ""); err != nil {
		t.Fatal(err)
	}
	b.until("wiped bundle seen", func() bool {
		c, err := b.config.get()
		return err == nil && len(c.Webhooks[0].ClientConfig.CABundle) == 0
	})
	b.step()
	b.carries(first, second)
	if !b.signedBy(first) {
		t.Error("goes over to the second CA without the overlap")
	}
}

func TestSignedCertificate(t *testing.T) {
	b := newBench(t)
	ca, data := newCA(t, b.clock, b.clock.Add(90*time.Minute))
	b.caIs(data)
	b.step()
	cert, err := b.sign()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cert.NotBefore, b.clock.Add(-5*time.Minute); !got.Equal(want) {
		t.Errorf("valid from %s, want %s: clocks may be behind", got, want)
	}
	if got, want := cert.NotAfter, b.clock.Add(time.Hour); !got.Equal(want) {
		t.Errorf("valid until %s, want %s", got, want)
	}
	b.clock = b.clock.Add(time.Hour)
	if cert, err = b.sign(); err != nil {
		t.Fatal(err)
	}
	if !cert.NotAfter.Equal(ca.cert.NotAfter) {
		t.Errorf("valid until %s, longer than the CA (%s)", cert.NotAfter, ca.cert.NotAfter)
	}
	b.clock = ca.cert.NotAfter
	if _, err := b.sign(); !errors.Is(err, authority.ErrCertificateNotAvailable) {
		t.Errorf("Sign with an expired CA: %v, want ErrCertificateNotAvailable", err)
	}
}

func TestSpoiltSecret(t *testing.T) {
	_, good := newCA(t, time.Now(), time.Now().Add(time.Hour))
	_, other := newCA(t, time.Now(), time.Now().Add(time.Hour))
	for name, data := range map[string]map[string][]byte{
		"empty":       nil,
		"no key":      {corev1.TLSCertKey: good[corev1.TLSCertKey]},
		"other key":   {corev1.TLSCertKey: good[corev1.TLSCertKey], corev1.TLSPrivateKeyKey: other[corev1.TLSPrivateKeyKey]},
		"garbage":     {corev1.TLSCertKey: []byte("x"), corev1.TLSPrivateKeyKey: []byte("y")},
		"key as cert": {corev1.TLSCertKey: good[corev1.TLSPrivateKeyKey], corev1.TLSPrivateKeyKey: good[corev1.TLSPrivateKeyKey]},
	} {
		if _, err := parseKeypair(&corev1.Secret{Data: data}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := parseKeypair(&corev1.Secret{Data: good}); err != nil {
		t.Errorf("good Secret: %v", err)
	}
}

func TestLives(t *testing.T) {
	for _, test := range []struct {
		ca, leaf time.Duration
		ok       bool
	}{
		{0, 0, true},
		{150 * time.Second, 60 * time.Second, true},
		{time.Minute, 30 * time.Second, false},
		{time.Hour, 10 * time.Second, false},
		{time.Hour, 2 * time.Hour, false},
	} {
		_, err := NewBuiltin(Builtin{CALife: test.ca, LeafLife: test.leaf, Log: slog.New(slog.DiscardHandler)})
		if (err == nil) != test.ok {
			t.Errorf("CA %s, certificate %s: %v", test.ca, test.leaf, err)
		}
	}
}
