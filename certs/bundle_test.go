// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// newCA returns a CA valid in an interval, and the Secret data that holds it.
func newCA(t *testing.T, notBefore, notAfter time.Time) (*keypair, map[string][]byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "ca"}, NotBefore: notBefore, NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	crt := pemOf(cert)
	return &keypair{cert: cert, key: key}, map[string][]byte{
		corev1.TLSCertKey:       crt,
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		"ca.crt":                crt,
	}
}

func pemOf(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

func TestMergeBundle(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	ca := func(from, to int) *x509.Certificate {
		pair, _ := newCA(t, now.Add(time.Duration(from)*time.Hour), now.Add(time.Duration(to)*time.Hour))
		return pair.cert
	}
	expired, old, current := ca(-3, -1), ca(-2, 1), ca(-1, 2)
	list := func(certs ...*x509.Certificate) []*x509.Certificate { return certs }
	var many []*x509.Certificate
	for i := range maxBundle + 3 {
		many = append(many, ca(-100+i, 1))
	}
	for _, test := range []struct {
		name                  string
		present, wanted, want []*x509.Certificate
	}{
		{"nothing yet", nil, list(current), list(current)},
		{"old and new overlap", list(old), list(current), list(old, current)},
		{"order does not matter", list(current, old), list(current), list(old, current)},
		{"each once", list(old, old, current), list(current, current), list(old, current)},
		{"expired ones leave", list(expired, old), list(current), list(old, current)},
		{"an expired one that is wanted leaves too", list(current), list(expired, current), list(current)},
		{"bounded, the oldest leave", many, list(current), append(list(many[4:]...), current)},
		{"wanted ones stay beyond the bound", many[3:], list(many[0], current), append(append(list(many[0]), many[5:]...), current)},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := mergeBundle(test.present, test.wanted, now)
			var want []byte
			for _, c := range test.want {
				want = append(want, pemOf(c)...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got %d certificates, want %d:\n%s\n%s", len(parseBundle(got)), len(test.want), got, want)
			}
			if again := mergeBundle(parseBundle(got), test.wanted, now); !bytes.Equal(again, got) {
				t.Error("merging again changes it")
			}
		})
	}
}

func TestParseBundlePassesOverGarbage(t *testing.T) {
	pair, data := newCA(t, time.Now(), time.Now().Add(time.Hour))
	bundle := append([]byte("# comment\n-----BEGIN CERTIFICATE-----\nZ2FyYmFnZQ==\n-----END CERTIFICATE-----\n"), data[corev1.TLSPrivateKeyKey]...)
	bundle = append(append(bundle, pemOf(pair.cert)...), "rest"...)
	if got := parseBundle(bundle); len(got) != 1 || !got[0].Equal(pair.cert) {
		t.Errorf("got %d certificates, want the one", len(got))
	}
}

func FuzzParseBundle(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nZ2FyYmFnZQ==\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs := parseBundle(data)
		merged := mergeBundle(certs, nil, time.Time{})
		if again := mergeBundle(parseBundle(merged), nil, time.Time{}); !bytes.Equal(again, merged) {
			t.Error("a merged bundle is not stable")
		}
	})
}
