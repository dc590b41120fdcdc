// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type ctx = context.Context

// webhook runs another webhook for pods in namespaces labelled NAME=yes, with the
// same failurePolicy, timeout and reinvocation as podproc's.
func (e *env) webhook(t *testing.T, name string, handler http.HandlerFunc) {
	t.Helper()
	svc, err := e.client.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 443}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ca := newCA(t)
	l, err := net.Listen("tcp", svc.Spec.ClusterIP+":443")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{
		Listener:    l,
		Config:      &http.Server{Handler: handler},
		TLS:         &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, name+".default.svc", time.Hour)}},
		EnableHTTP2: true,
	}
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections() // the API server keeps its own open
		server.Close()
	})

	shipped := e.configuration(t, configuration).Webhooks[0]
	seconds := int32(3)
	shipped.TimeoutSeconds = &seconds
	shipped.Name = name + ".example.com"
	shipped.ClientConfig = registrationv1.WebhookClientConfig{
		Service:  &registrationv1.ServiceReference{Namespace: "default", Name: name},
		CABundle: ca.pem,
	}
	shipped.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{name: "yes"}}
	configurations := e.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	_, err = configurations.Create(t.Context(), &registrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "z-" + name}, // after podproc's: they are called in the order of names
		Webhooks:   []registrationv1.MutatingWebhook{shipped},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := configurations.Delete(context.WithoutCancel(t.Context()), "z-"+name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// readReview reads a review, unless the API server has given it up meanwhile.
func readReview(t *testing.T, r *http.Request) *admissionv1.AdmissionReview {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		if r.Context().Err() == nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	}
	return &review
}

func writeReview(t *testing.T, w http.ResponseWriter, r *http.Request, review *admissionv1.AdmissionReview) {
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(review); err != nil && r.Context().Err() == nil {
		t.Error(err)
	}
}

// A testCA makes serving certificates.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newCA(t *testing.T) *testCA {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert := sign(t, template, template, key, key)
	return &testCA{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})}
}

func (ca *testCA) leaf(t *testing.T, name string, life time.Duration) tls.Certificate {
	t.Helper()
	key := newKey(t)
	cert := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.cert, key, ca.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// files are the leaf as tls.crt and tls.key.
func (ca *testCA) files(t *testing.T, name string, life time.Duration) (crt, key []byte) {
	t.Helper()
	leaf := ca.leaf(t, name, life)
	der, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var c, k bytes.Buffer
	pem.Encode(&c, &pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]})
	pem.Encode(&k, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return c.Bytes(), k.Bytes()
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
