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
// of a Service in a Secret: an issuer that signs itself, a CA from it, an
// issuer of that CA, and the certificate, all named after the service.
//
// A certificate straight from a self-signing issuer would be its own CA, and
// each renewal would make the caBundle and what replicas serve disagree until every
// kubelet has brought the new files. The CA keeps its key when it is
// renewed (rotationPolicy Never), so that the old and the new CA certificate verify
// the same serving certificates. The Certificate to inject from has the name of the service.
func CertManager(namespace, service, secret string) []runtime.Object {
	issuer := func(name string, config cmapi.IssuerConfig) *cmapi.Issuer {
		return &cmapi.Issuer{
			TypeMeta:   metav1.TypeMeta{APIVersion: cmapi.SchemeGroupVersion.String(), Kind: cmapi.IssuerKind},
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       cmapi.IssuerSpec{IssuerConfig: config},
		}
	}
	certificate := func(name string, spec cmapi.CertificateSpec) *cmapi.Certificate {
		return &cmapi.Certificate{
			TypeMeta:   metav1.TypeMeta{APIVersion: cmapi.SchemeGroupVersion.String(), Kind: cmapi.CertificateKind},
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       spec,
		}
	}
	ca := service + "-issuer-ca" // not the name of the Secret of the built-in way
	root := service + "-root"
	key := func(policy cmapi.PrivateKeyRotationPolicy) *cmapi.CertificatePrivateKey {
		return &cmapi.CertificatePrivateKey{Algorithm: cmapi.ECDSAKeyAlgorithm, Size: 256, RotationPolicy: policy}
	}
	days := func(n int) *metav1.Duration { return &metav1.Duration{Duration: time.Duration(n) * 24 * time.Hour} }
	from := func(name string) cmmeta.IssuerReference {
		return cmmeta.IssuerReference{Name: name, Kind: cmapi.IssuerKind, Group: "cert-manager.io"}
	}
	return []runtime.Object{
		issuer(root, cmapi.IssuerConfig{SelfSigned: &cmapi.SelfSignedIssuer{}}),
		certificate(ca, cmapi.CertificateSpec{
			IsCA:       true,
			CommonName: ca,
			SecretName: ca,
			Duration:   days(5 * 365),
			PrivateKey: key(cmapi.RotationPolicyNever),
			IssuerRef:  from(root),
		}),
		issuer(service, cmapi.IssuerConfig{CA: &cmapi.CAIssuer{SecretName: ca}}),
		certificate(service, cmapi.CertificateSpec{
			DNSNames:   []string{service + "." + namespace + ".svc"},
			SecretName: secret,
			Duration:   days(90),
			Usages:     []cmapi.KeyUsage{cmapi.UsageServerAuth, cmapi.UsageDigitalSignature},
			PrivateKey: key(cmapi.RotationPolicyAlways),
			IssuerRef:  from(service),
		}),
	}
}
