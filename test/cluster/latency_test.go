// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testLatency creates pods with and without the webhook in turns and states the
// difference: 100 of each, 1,000 with PODPROC_SOAK=1.
func testLatency(t *testing.T, e *env) {
	n := 100
	if os.Getenv("PODPROC_SOAK") != "" {
		n = 1000
	}
	without := e.namespace(t, "latency-without", nil)
	with := e.namespace(t, "latency-with", map[string]string{injectKey: "true"})
	took := map[string][]time.Duration{}
	for i := range n {
		for _, ns := range []string{without, with} {
			start := time.Now()
			pod, err := e.client.CoreV1().Pods(ns).Create(t.Context(), newPod(fmt.Sprintf("pod-%d", i), nil), metav1.CreateOptions{})
			took[ns] = append(took[ns], time.Since(start))
			if err == nil && ns == with {
				err = injected(pod)
			}
			if err != nil {
				t.Fatalf("pod %d: %v", i, err)
			}
		}
	}
	at := func(ns string, q float64) time.Duration {
		slices.Sort(took[ns])
		return took[ns][int(q*float64(n-1))].Round(10 * time.Microsecond)
	}
	t.Logf("%d pods each: p50 %s without, %s with (+%s); p99 %s without, %s with", n,
		at(without, .5), at(with, .5), at(with, .5)-at(without, .5), at(without, .99), at(with, .99))
}
