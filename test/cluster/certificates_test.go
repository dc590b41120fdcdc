// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// testCertificates changes CA and certificates in every way while pods are
// created without a pause: not one may be missed, nor one handshake fail.
func testCertificates(t *testing.T, e *env) {
	ns := e.namespace(t, "certificates", map[string]string{injectKey: "true"})
	missed := e.missed(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var pods, handshakes int
	wg.Go(func() { pods = createPods(t, e, ns, stop) })
	wg.Go(func() { handshakes = shakeHands(t, e, stop) })
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer end()

	first := e.ca(t)
	secrets := e.client.CoreV1().Secrets(namespace)
	if err := secrets.Delete(t.Context(), caSecret, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	deleted := e.changed(t, "CA Secret deleted", first)

	spoil := []byte(`{"data":{"tls.crt":"Z2FyYmFnZQ==","tls.key":"Z2FyYmFnZQ=="}}`)
	if _, err := secrets.Patch(t.Context(), caSecret, types.MergePatchType, spoil, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	spoilt := e.changed(t, "CA Secret spoilt", deleted)

	// A replica goes and another comes, as in an upgrade: the API server's open
	// connections go away without losing a request.
	next := e.startReplica(t)
	eventually(t, "new replica ready", next.ready)
	gone := e.replicas[0]
	if !gone.Terminate(patience) {
		t.Error("replica does not end on SIGTERM")
	}
	e.replicas = e.replicas[1:]

	renewed := e.changed(t, "CA near its end", spoilt)
	if left := spoilt.NotAfter.Sub(renewed.NotBefore); left > caLife/3 {
		t.Errorf("CA was renewed with %s of %s left, want a third at most", left, caLife)
	}
	eventually(t, "the expired CA leaves the caBundle", func(ctx ctx) error {
		for _, ca := range parseBundle(e.bundle(t)) {
			if ca.Equal(spoilt) {
				return fmt.Errorf("still there, expires in %s", time.Until(ca.NotAfter))
			}
		}
		return nil
	})
	if !bytes.Contains(e.bundle(t), pemOf(renewed)) {
		t.Error("the present CA is not in the caBundle")
	}
	end()
	e.countsCertificates(t)
	if now := e.missed(t); now != missed {
		t.Errorf("the API server has passed podproc over %v times, before it was %v", now, missed)
	}
	t.Logf("%d pods created, %d handshakes", pods, handshakes)
	if pods == 0 || handshakes == 0 {
		t.Error("nothing was tried")
	}
}

// countsCertificates looks at the metrics that an alert would.
func (e *env) countsCertificates(t *testing.T) {
	t.Helper()
	for _, r := range e.replicas {
		value, err := r.metric(t.Context(), "podproc_webhook_certificate_not_after_timestamp_seconds")
		if err != nil {
			t.Error(err)
			continue
		}
		unix, err := strconv.ParseFloat(value, 64)
		if left := time.Until(time.Unix(int64(unix), 0)); err != nil || left < 0 || left > leafLife {
			t.Errorf("%s: certificate expires in %s by its metric (%s), want within %s", r.name, left, value, leafLife)
		}
		if value, err := r.metric(t.Context(), `podproc_webhook_ca_bundle_writes_total{result="error"}`); err != nil || value != "0" {
			t.Errorf("%s: failed writes of caBundle: %s (%v)", r.name, value, err)
		}
	}
}

// changed waits until there is another CA and all replicas serve certificates from it, and returns it.
func (e *env) changed(t *testing.T, what string, old *x509.Certificate) *x509.Certificate {
	t.Helper()
	var ca *x509.Certificate
	eventually(t, what+": another CA is served", func(ctx ctx) error {
		secret, err := e.client.CoreV1().Secrets(namespace).Get(ctx, caSecret, metav1.GetOptions{})
		if err != nil {
			return err
		}
		found := parseBundle(secret.Data[corev1.TLSCertKey])
		if len(found) != 1 || found[0].Equal(old) {
			return errors.New("no other CA in the Secret")
		}
		ca = found[0]
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		for _, r := range e.replicas {
			if err := handshake(net.JoinHostPort(r.host, reviewPort), roots); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
		return nil
	})
	return ca
}

// createPods creates pods until stop is closed, and reports those that were missed.
func createPods(t *testing.T, e *env, ns string, stop <-chan struct{}) (n int) {
	for {
		select {
		case <-stop:
			return n
		case <-time.After(50 * time.Millisecond):
		}
		n++
		pod, err := e.client.CoreV1().Pods(ns).Create(t.Context(), newPod(fmt.Sprintf("pod-%d", n), nil), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil {
			err = injected(pod)
		}
		if err != nil {
			t.Errorf("pod %d, at %s: %v", n, time.Now().Format(time.RFC3339Nano), err)
		}
	}
}

// shakeHands connects to the Service as an API server that has just started would,
// with the caBundle as it is. The API server itself keeps its connections for long.
func shakeHands(t *testing.T, e *env, stop <-chan struct{}) (n int) {
	svc, err := e.client.CoreV1().Services(namespace).Get(t.Context(), service, metav1.GetOptions{})
	if err != nil {
		t.Error(err)
		return 0
	}
	for {
		select {
		case <-stop:
			return n
		case <-time.After(50 * time.Millisecond):
		}
		n++
		before, start := e.bundle(t), time.Now()
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(before)
		err := handshake(net.JoinHostPort(svc.Spec.ClusterIP, "443"), roots)
		if err == nil {
			continue
		}
		if time.Since(start) > 5*time.Second && !bytes.Equal(before, e.bundle(t)) {
			continue // so late that the bundle is one of long ago: no fault of podproc's
		}
		t.Errorf("handshake %d, at %s: %v", n, time.Now().Format(time.RFC3339Nano), err)
	}
}

func handshake(addr string, roots *x509.CertPool) error {
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, ServerName: service + "." + namespace + ".svc"})
	if err != nil {
		return err
	}
	return conn.Close()
}

// missed is how often the API server has admitted an object without podproc
// since it could not call it.
func (e *env) missed(t *testing.T) (n float64) {
	t.Helper()
	metrics, err := e.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(metrics) {
		if !strings.HasPrefix(line, "apiserver_admission_webhook_fail_open_count{") || !strings.Contains(line, ".podproc.io") {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
		if err != nil {
			t.Fatal(err)
		}
		n += value
	}
	return n
}

// bundle is the caBundle, which all webhooks of the configuration share.
func (e *env) bundle(t *testing.T) []byte {
	c, err := e.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), configuration, metav1.GetOptions{})
	if err != nil {
		t.Error(err)
		return nil
	}
	return c.Webhooks[0].ClientConfig.CABundle
}

func (e *env) ca(t *testing.T) *x509.Certificate {
	t.Helper()
	secret, err := e.client.CoreV1().Secrets(namespace).Get(t.Context(), caSecret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := parseBundle(secret.Data[corev1.TLSCertKey])
	if len(found) != 1 {
		t.Fatalf("%d certificates in tls.crt of the CA", len(found))
	}
	return found[0]
}

func parseBundle(data []byte) (certs []*x509.Certificate) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, cert)
		}
	}
	return certs
}

func pemOf(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}
