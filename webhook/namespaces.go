// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/podproc/podproc/webhook/inject"
)

// askFor is how long a request waits for a namespace that the cache does not
// hold. The API server waits 3 s in all for the webhook.
const askFor = time.Second

// Namespaces knows the labels of all namespaces.
type Namespaces struct {
	client   kubernetes.Interface
	factory  informers.SharedInformerFactory
	informer cache.SharedIndexInformer
	lister   corelisters.NamespaceLister
	log      *slog.Logger
}

// NewNamespaces returns Namespaces that Start fills.
func NewNamespaces(client kubernetes.Interface, log *slog.Logger) *Namespaces {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(onlyLabels))
	namespaces := factory.Core().V1().Namespaces()
	return &Namespaces{client: client, factory: factory, informer: namespaces.Informer(), lister: namespaces.Lister(), log: log}
}

// onlyLabels drops what is not needed before it is kept.
func onlyLabels(obj any) (any, error) {
	if ns, ok := obj.(*corev1.Namespace); ok {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: ns.Name, UID: ns.UID, ResourceVersion: ns.ResourceVersion, Labels: ns.Labels,
		}}, nil
	}
	return obj, nil
}

// Start watches until ctx ends.
func (n *Namespaces) Start(ctx context.Context) error {
	n.factory.StartWithContext(ctx)
	<-ctx.Done()
	n.factory.Shutdown()
	return nil
}

// Ready reports whether all namespaces were read once.
func (n *Namespaces) Ready() bool { return n.informer.HasSynced() }

// Get returns what is known of a namespace. One that the watch has not brought
// yet is asked for; nil if that brings nothing.
func (n *Namespaces) Get(ctx context.Context, name string) *inject.Namespace {
	ns, err := n.lister.Get(name)
	if err != nil {
		ctx, cancel := context.WithTimeout(ctx, askFor)
		defer cancel()
		if ns, err = n.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); err != nil {
			n.log.Warn("namespace cannot be read", "namespace", name, "err", err)
			return nil
		}
	}
	return &inject.Namespace{Name: name, Labels: ns.Labels}
}
