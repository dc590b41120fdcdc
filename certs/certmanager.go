// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// InjectCAFrom is the annotation of a MutatingWebhookConfiguration that has
// cainjector write caBundle, with the value namespace/name of a Certificate.
const InjectCAFrom = "cert-manager.io/inject-ca-from"

// CertManager returns the objects that have cert-manager keep the serving certificate
// of podproc in namespace, as the chart renders them: an issuer that
// signs itself, a CA from it, an issuer of that CA, and the certificate. The one to
// inject from is the last.
//
// A certificate straight from a self-signing issuer would be its own CA, and
// each renewal would make the caBundle and what replicas serve disagree until every
// kubelet has brought the new files. The CA keeps its key when it is
// renewed (rotationPolicy Never), so that the old and the new CA certificate verify
// the same serving certificates.
func CertManager(namespace string) []runtime.Object {
	const (
		root   = "podproc-selfsigned"
		ca     = "podproc-ca"
		server = "podproc-webhook"
	)
	return []runtime.Object{
		issuer(namespace, root, cmapi.IssuerConfig{SelfSigned: &cmapi.SelfSignedIssuer{}}),
		certificate(namespace, ca, cmapi.CertificateSpec{
			IsCA:        true,
			CommonName:  ca,
			SecretName:  ca,
			Duration:    hours(10 * 365 * 24),
			RenewBefore: hours(5 * 365 * 24),
			PrivateKey:  ecdsaKey(cmapi.RotationPolicyNever),
			IssuerRef:   cmmeta.IssuerReference{Kind: cmapi.IssuerKind, Name: root},
		}),
		issuer(namespace, ca, cmapi.IssuerConfig{CA: &cmapi.CAIssuer{SecretName: ca}}),
		certificate(namespace, server, cmapi.CertificateSpec{
			DNSNames:    []string{server + "." + namespace + ".svc", server + "." + namespace + ".svc.cluster.local"},
			SecretName:  server + "-tls",
			Duration:    hours(90 * 24),
			RenewBefore: hours(30 * 24),
			PrivateKey:  ecdsaKey(cmapi.RotationPolicyAlways),
			Usages:      []cmapi.KeyUsage{cmapi.UsageDigitalSignature, cmapi.UsageServerAuth},
			IssuerRef:   cmmeta.IssuerReference{Kind: cmapi.IssuerKind, Name: ca},
		}),
	}
}

func issuer(namespace, name string, config cmapi.IssuerConfig) *cmapi.Issuer {
	return &cmapi.Issuer{
		TypeMeta:   metav1.TypeMeta{APIVersion: cmapi.SchemeGroupVersion.String(), Kind: cmapi.IssuerKind},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       cmapi.IssuerSpec{IssuerConfig: config},
	}
}

func certificate(namespace, name string, spec cmapi.CertificateSpec) *cmapi.Certificate {
	return &cmapi.Certificate{
		TypeMeta:   metav1.TypeMeta{APIVersion: cmapi.SchemeGroupVersion.String(), Kind: cmapi.CertificateKind},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       spec,
	}
}

func ecdsaKey(policy cmapi.PrivateKeyRotationPolicy) *cmapi.CertificatePrivateKey {
	return &cmapi.CertificatePrivateKey{Algorithm: cmapi.ECDSAKeyAlgorithm, Size: 256, RotationPolicy: policy}
}

func hours(n int) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(n) * time.Hour}
}
