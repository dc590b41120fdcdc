// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package certs provides the webhook's serving certificate and keeps it and the
// API server's caBundle in agreement.
//
// There are two ways, one flag chooses:
//
//   - Built in ([NewBuiltin]): a CA lives in one Secret and is made, renewed at two
//     thirds of its life and repaired by cert-manager's DynamicAuthority; every
//     replica holds a leaf of its own in memory, made by cert-manager's
//     DynamicSource. Nothing of cert-manager needs to be installed.
//   - Files ([NewFiles]): certificate and key are files that somebody else renews, as
//     cert-manager does with the objects of [CertManager]; they are read again when they change.
//
// What the package promises: no admission is lost to a rotation. A new CA is first
// carried by the caBundle next to the old one; a replica serves a certificate from
// it only when the API servers have had [Overlap] to learn of it. The old one
// leaves the caBundle when it has expired. A Secret that was deleted or spoiled
// is replaced the same way. [Ready] says whether the API server, going by the
// MutatingWebhookConfiguration as it is now, would believe the certificate being served.
//
// What it refuses: to write any object but the one Secret and the caBundle fields of
// the one MutatingWebhookConfiguration, both by name; to write caBundle at all
// where certificates come from files (there cainjector owns it).
package certs
