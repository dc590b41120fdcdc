// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// fieldManager is the name that podproc's writes bear.
const fieldManager = "podproc-webhook"

// A caSecret is the view of the one Secret, read through a watch on that name only.
type caSecret struct {
	namespace, name string
	client          kubernetes.Interface
	factory         informers.SharedInformerFactory
	informer        cache.SharedIndexInformer
	lister          corelisters.SecretNamespaceLister
}

func newCASecret(client kubernetes.Interface, namespace, name string) *caSecret {
	factory := informers.NewSharedInformerFactoryWithOptions(client, resync,
		informers.WithNamespace(namespace), informers.WithTweakListOptions(onlyNamed(name)))
	secrets := factory.Core().V1().Secrets()
	return &caSecret{
		namespace: namespace,
		name:      name,
		client:    client,
		factory:   factory,
		informer:  secrets.Informer(),
		lister:    secrets.Lister().Secrets(namespace),
	}
}

// String is namespace/name.
func (s *caSecret) String() string { return s.namespace + "/" + s.name }

// Start watches until ctx ends.
func (s *caSecret) Start(ctx context.Context) {
	s.factory.StartWithContext(ctx)
	<-ctx.Done()
	s.factory.Shutdown()
}

func (s *caSecret) onChange(f func()) error { return onChange(s.informer, f) }

// get returns the Secret as last seen; it must not be changed.
func (s *caSecret) get() (*corev1.Secret, error) {
	if !s.informer.HasSynced() {
		return nil, fmt.Errorf("the Secret %s is not read yet: the API server has not answered, or RBAC does not allow get, list and watch of that name", s)
	}
	return s.lister.Get(s.name)
}

// create makes the Secret, empty, if it does not exist.
//
// A POST cannot be allowed by name, since RBAC does not see the name in it. A
// server-side apply carries the name in its path, and the API server
// asks for `patch` and `create` of that very name. On a Secret that another
// replica has made and filled meanwhile it changes nothing, for it says nothing of the data.
func (s *caSecret) create(ctx context.Context) error {
	_, err := s.client.CoreV1().Secrets(s.namespace).Apply(ctx,
		applycorev1.Secret(s.name, s.namespace).WithType(corev1.SecretTypeOpaque),
		metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return fmt.Errorf("create Secret %s: %w", s, err)
	}
	return nil
}
