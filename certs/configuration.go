// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	admissionlisters "k8s.io/client-go/listers/admissionregistration/v1"
	"k8s.io/client-go/tools/cache"
)

// resync is how often an informer tells again what it holds, so that an event
// that a handler missed is made up for.
const resync = 10 * time.Minute

// A Configuration is the view of one MutatingWebhookConfiguration. It is read
// through a watch on that name only.
type Configuration struct {
	name     string
	client   kubernetes.Interface
	factory  informers.SharedInformerFactory
	informer cache.SharedIndexInformer
	lister   admissionlisters.MutatingWebhookConfigurationLister
}

// NewConfiguration returns a view of the MutatingWebhookConfiguration of that
// name. Start fills it.
func NewConfiguration(client kubernetes.Interface, name string) *Configuration {
	factory := informers.NewSharedInformerFactoryWithOptions(client, resync, informers.WithTweakListOptions(onlyNamed(name)))
	configurations := factory.Admissionregistration().V1().MutatingWebhookConfigurations()
	return &Configuration{
		name:     name,
		client:   client,
		factory:  factory,
		informer: configurations.Informer(),
		lister:   configurations.Lister(),
	}
}

// Start watches until ctx ends.
func (c *Configuration) Start(ctx context.Context) error {
	c.factory.StartWithContext(ctx)
	<-ctx.Done()
	c.factory.Shutdown()
	return nil
}

// onChange calls f, which must not block, when the configuration may have changed.
func (c *Configuration) onChange(f func()) error { return onChange(c.informer, f) }

func onChange(informer cache.SharedInformer, f func()) error {
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { f() },
		UpdateFunc: func(any, any) { f() },
		DeleteFunc: func(any) { f() },
	})
	return err
}

// onlyNamed restricts lists and watches to one name, which is how RBAC can allow them by name.
func onlyNamed(name string) func(*metav1.ListOptions) {
	selector := fields.OneTermEqualSelector("metadata.name", name).String()
	return func(o *metav1.ListOptions) { o.FieldSelector = selector }
}

// get returns the configuration as last seen; it must not be changed.
func (c *Configuration) get() (*admissionv1.MutatingWebhookConfiguration, error) {
	if !c.informer.HasSynced() {
		return nil, fmt.Errorf("the MutatingWebhookConfiguration %s is not read yet: the API server has not answered, or RBAC does not allow get, list and watch of that name", c.name)
	}
	config, err := c.lister.Get(c.name)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("the MutatingWebhookConfiguration %s does not exist: apply podproc's manifests again", c.name)
	}
	return config, err
}

// Verify reports why the API server would refuse the certificate of a server
// called name: with the caBundle of each webhook as it is now, at that time.
func (c *Configuration) Verify(leaf *tls.Certificate, name string, now time.Time) error {
	cert, err := parsedLeaf(leaf)
	if err != nil {
		return err
	}
	if now.After(cert.NotAfter) {
		return fmt.Errorf("serving certificate expired at %s", cert.NotAfter.UTC().Format(time.RFC3339))
	}
	config, err := c.get()
	if err != nil {
		return err
	}
	if len(config.Webhooks) == 0 {
		return fmt.Errorf("the MutatingWebhookConfiguration %s has no webhooks: apply podproc's manifests again", c.name)
	}
	intermediates := x509.NewCertPool()
	for _, der := range leaf.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(cert)
		}
	}
	for i := range config.Webhooks {
		w := &config.Webhooks[i]
		roots := x509.NewCertPool()
		for _, ca := range parseBundle(w.ClientConfig.CABundle) {
			roots.AddCert(ca)
		}
		_, err := cert.Verify(x509.VerifyOptions{
			DNSName:       name,
			Roots:         roots,
			Intermediates: intermediates,
			CurrentTime:   now,
			KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return fmt.Errorf("caBundle of webhook %s in MutatingWebhookConfiguration %s does not verify the serving certificate: %w", w.Name, c.name, err)
		}
	}
	return nil
}

func parsedLeaf(leaf *tls.Certificate) (*x509.Certificate, error) {
	switch {
	case leaf == nil || len(leaf.Certificate) == 0:
		return nil, errors.New("no serving certificate yet")
	case leaf.Leaf != nil:
		return leaf.Leaf, nil
	}
	return x509.ParseCertificate(leaf.Certificate[0])
}

// carried returns the CAs that all webhooks of the configuration carry, so that
// whichever is called believes them.
func carried(config *admissionv1.MutatingWebhookConfiguration) []*x509.Certificate {
	count := make(map[fingerprint]int)
	var all []*x509.Certificate
	for i := range config.Webhooks {
		here := make(map[fingerprint]bool)
		for _, ca := range parseBundle(config.Webhooks[i].ClientConfig.CABundle) {
			p := printOf(ca)
			if here[p] {
				continue
			}
			here[p] = true
			if count[p]++; count[p] == len(config.Webhooks) {
				all = append(all, ca)
			}
		}
	}
	return all
}

// carry makes every webhook of the configuration carry the wanted CAs beside
// what it carries and has not expired. It reports whether it had to write.
func (c *Configuration) carry(ctx context.Context, config *admissionv1.MutatingWebhookConfiguration, wanted []*x509.Certificate, now time.Time) (wrote bool, err error) {
	var present []*x509.Certificate
	for i := range config.Webhooks {
		present = append(present, parseBundle(config.Webhooks[i].ClientConfig.CABundle)...)
	}
	patch := bundlePatch(config, mergeBundle(present, wanted, now))
	if patch == nil {
		return false, nil
	}
	_, err = c.client.AdmissionregistrationV1().MutatingWebhookConfigurations().
		Patch(ctx, c.name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return false, fmt.Errorf("patch caBundle of MutatingWebhookConfiguration %s: %w", c.name, err)
	}
	return true, nil
}

// bundlePatch is the JSON Patch that sets caBundle in each webhook where it
// differs; nil if it is the same everywhere. It carries the resourceVersion of the
// object it was made from: a replica with an old view gets a conflict and cannot
// undo another's write.
//
// A JSON Patch, not a server-side apply: it makes podproc the owner of the
// caBundle fields alone, and cannot create the object.
func bundlePatch(config *admissionv1.MutatingWebhookConfiguration, bundle []byte) []byte {
	type op struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	ops := []op{{"replace", "/metadata/resourceVersion", config.ResourceVersion}}
	for i := range config.Webhooks {
		if string(config.Webhooks[i].ClientConfig.CABundle) != string(bundle) {
			ops = append(ops, op{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), bundle})
		}
	}
	if len(ops) == 1 {
		return nil
	}
	patch, err := json.Marshal(ops)
	if err != nil {
		panic(err) // strings and bytes only
	}
	return patch
}
