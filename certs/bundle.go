// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// maxBundle bounds the caBundle when a Secret is spoiled again and again: each
// repair adds a CA that would stay for the whole of its life.
const maxBundle = 8

// A fingerprint identifies a certificate.
type fingerprint [sha256.Size]byte

func printOf(cert *x509.Certificate) fingerprint { return sha256.Sum256(cert.Raw) }

// parseBundle returns the certificates in PEM data. What is no certificate is
// passed over: it can verify nothing.
func parseBundle(data []byte) []*x509.Certificate {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			return certs
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, cert)
		}
	}
}

// mergeBundle returns the PEM bundle that holds the wanted CAs and those of the
// present ones that have not expired at now, each once, oldest first, so that
// replicas that do this at the same time write the same. If there are more than
// maxBundle, the oldest that are not wanted go.
func mergeBundle(present, wanted []*x509.Certificate, now time.Time) []byte {
	seen := make(map[fingerprint]bool)
	keep := func(dst, src []*x509.Certificate) []*x509.Certificate {
		for _, cert := range src {
			if p := printOf(cert); !seen[p] && now.Before(cert.NotAfter) {
				seen[p] = true
				dst = append(dst, cert)
			}
		}
		return dst
	}
	all := keep(nil, wanted)
	n := len(all)
	all = keep(all, present)
	slices.SortStableFunc(all[n:], func(a, b *x509.Certificate) int { return b.NotBefore.Compare(a.NotBefore) })
	all = all[:min(len(all), max(n, maxBundle))]
	slices.SortFunc(all, func(a, b *x509.Certificate) int {
		return cmp.Or(a.NotBefore.Compare(b.NotBefore), bytes.Compare(a.Raw, b.Raw))
	})
	var out []byte
	for _, cert := range all {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return out
}
