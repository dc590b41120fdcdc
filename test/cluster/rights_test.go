// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"os/exec"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testRights: the ServiceAccount may do what it needs and nothing else.
func testRights(t *testing.T, e *env) {
	for _, test := range []struct {
		verbs, group, resource, namespace, name string
		want                                    bool
	}{
		{"get list watch", "", "namespaces", "", "", true},
		{"create patch", "", "events", "default", "", true},
		{"get list watch create update patch", "", "secrets", namespace, caSecret, true},
		{"get list watch patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", configuration, true},

		{"get list watch create update patch delete", "", "secrets", namespace, "", false},
		{"get list watch create update patch delete", "", "secrets", namespace, "other", false},
		{"get", "", "secrets", "default", caSecret, false},
		{"delete", "", "secrets", namespace, caSecret, false},
		{"list create patch update delete", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", "", false},
		{"patch update delete", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", "other", false},
		{"create delete", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", configuration, false},
		{"get list watch create update patch delete", "", "pods", "default", "", false},
		{"create update patch delete", "", "namespaces", "", "", false},
		{"get list watch create update patch delete", "", "configmaps", namespace, "", false},
		{"get list delete", "", "events", "default", "", false},
		{"get list create update patch", "apps", "deployments", namespace, "", false},
		{"get create update", "coordination.k8s.io", "leases", namespace, "", false},
	} {
		for verb := range strings.FieldsSeq(test.verbs) {
			review, err := e.client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
				Spec: authorizationv1.SubjectAccessReviewSpec{
					User:   "system:serviceaccount:podproc:podproc-webhook",
					Groups: []string{"system:serviceaccounts", "system:serviceaccounts:podproc", "system:authenticated"},
					ResourceAttributes: &authorizationv1.ResourceAttributes{
						Verb: verb, Group: test.group, Resource: test.resource, Namespace: test.namespace, Name: test.name,
					},
				},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if review.Status.Allowed != test.want {
				t.Errorf("%s %s %s/%s is allowed: %t, want %t", verb, test.resource, test.namespace, test.name, review.Status.Allowed, test.want)
			}
		}
	}
}

// moduleDir is where the source of a module of podproc's go.mod lies.
func moduleDir(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatalf("go list -m %s: %v", module, err)
	}
	return strings.TrimSpace(string(out))
}
