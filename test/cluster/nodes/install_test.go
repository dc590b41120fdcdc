// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// kinds are all that podproc's manifests make.
const kinds = "daemonsets,deployments,pods,services,secrets,serviceaccounts,configmaps,networkpolicies,poddisruptionbudgets," +
	"resourcequotas,roles,rolebindings,clusterroles,clusterrolebindings,mutatingwebhookconfigurations"

// before: a pod that was injected waits on a node where podproc is not up yet,
// and says what for.
func before(c *fixture) {
	cmd := exec.CommandContext(c.ctx(), "go", "run", "./cmd/podproc", "inject", "-f", "-")
	cmd.Dir = c.Root
	cmd.Stdin = strings.NewReader(pod("early", "default", "node1", inject, "containers: ["+container("app", small("memory: 48Mi, cpu: 1"))+"]"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("podproc inject: %v", err)
	}
	c.apply(string(out), "apply", "-f", "-")
	c.eventually("the pod says what it waits for", func() (bool, string) {
		out := c.kubectl("describe", "pod", "early")
		return strings.Contains(out, "hostPath type check failed: /run/podproc/fs/proc/meminfo is not a file"), out
	})
}

// install is the README's: one file.
func install(c *fixture) {
	c.kubectl("apply", "-f", c.manifest("podproc.yaml"))
	c.installed()
}

// waited: the pod that waited goes on by itself. The kubelet takes its time
// from one attempt to the next.
func waited(c *fixture) {
	c.running("default", "early")
	c.want("early", c.looked("early", "app", "default"), limited(48<<10, 1))
	c.forget("early")
}

// installed waits for every pod, and for the webhook to be asked.
func (c *fixture) installed() {
	c.t.Helper()
	for _, workload := range []string{"daemonset/podproc-node", "daemonset/podproc-standby", "deployment/podproc-webhook"} {
		c.rollout(workload, "podproc")
	}
	c.eventually("podproc-node is ready on two nodes", func() (bool, string) {
		got := c.kubectl("get", "daemonset", "podproc-node", "-n", "podproc", "-o", "jsonpath={.status.numberReady}")
		return got == "2", got
	})
	c.asked()
}

// asked waits until the API server asks the webhook.
func (c *fixture) asked() {
	c.t.Helper()
	c.eventually("the API server asks the webhook", func() (bool, string) {
		out := c.apply(pod("probe", "default", "", `annotations: {podproc.io/inject: "true"}`, ""), "apply", "--dry-run=server", "-o", "yaml", "-f", "-")
		return strings.Contains(out, "/run/podproc/fs/proc/meminfo"), out
	})
}

// installAgain: nothing is changed, the CA included.
func installAgain(c *fixture) {
	if secret := c.kubectl("get", "secret", "podproc-webhook-ca", "-n", "podproc", "-o", "jsonpath={.data}"); !strings.Contains(secret, "tls.crt") {
		c.t.Errorf("the webhook has not filled its Secret: %s", secret)
	}
	before := c.objects()
	c.kubectl("apply", "-f", c.manifest("podproc.yaml"))
	if diff := cmp.Diff(before, c.objects()); diff != "" {
		c.t.Errorf("applying the manifest again has changed something (-before +after):\n%s", diff)
	}
	c.patient()
}

// patience of the API server with the webhook, in seconds. It is 3 as shipped,
// after which pods start without podproc: that would be a test of the machine.
const webhookTimeout = 30

// patient has the API server wait for the webhook.
func (c *fixture) patient() {
	c.t.Helper()
	names := c.kubectl("get", "mutatingwebhookconfiguration", "podproc", "-o", "jsonpath={.webhooks[*].name}")
	var changes []string
	for i := range strings.Fields(names) {
		changes = append(changes, fmt.Sprintf(`{"op": "replace", "path": "/webhooks/%d/timeoutSeconds", "value": %d}`, i, webhookTimeout))
	}
	c.kubectl("patch", "mutatingwebhookconfiguration", "podproc", "--type=json", "--patch=["+strings.Join(changes, ",")+"]")
	c.asked()
}

// objects is all that podproc's manifests made, but for what always changes.
func (c *fixture) objects() map[string]any {
	c.t.Helper()
	var list struct{ Items []map[string]any }
	kinds := strings.Replace(kinds, ",pods", "", 1)
	if err := json.Unmarshal([]byte(c.kubectl("get", kinds, "-A", "-l", "app.kubernetes.io/name=podproc", "-o", "json")), &list); err != nil {
		c.t.Fatal(err)
	}
	all := make(map[string]any)
	for _, o := range list.Items {
		metadata := o["metadata"].(map[string]any)
		delete(metadata, "resourceVersion")
		delete(metadata, "managedFields")
		delete(o, "status")
		all[fmt.Sprintf("%s %s", o["kind"], metadata["name"])] = o
	}
	return all
}

// firstUse is the README's: the example gets its annotation.
func firstUse(c *fixture) {
	example, err := os.ReadFile(c.manifest("example.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	const image = "image: ubuntu:24.04"
	if !strings.Contains(string(example), image) {
		c.t.Fatalf("deploy/example.yaml has no %q", image)
	}
	c.apply(strings.Replace(string(example), image, "image: "+Tools, 1), "apply", "-f", "-")
	c.rollout("deployment/web", "default")
	c.kubectl("annotate", "deployment", "web", "podproc.io/inject=true")
	c.rollout("deployment/web", "default")
	out := c.kubectl("exec", "deploy/web", "--", "free", "-m")
	if fields := strings.Fields(strings.SplitN(out, "\n", 3)[1]); fields[0] != "Mem:" || fields[1] != "256" {
		c.t.Errorf("free -m in an annotated Deployment says\n%s", out)
	}
	c.kubectl("delete", "deployment", "web", "--now")
}

func (c *fixture) nothingLeft() {
	c.t.Helper()
	c.eventually("nothing of podproc is left", func() (bool, string) {
		out := c.kubectl("get", kinds, "-A", "-l", "app.kubernetes.io/name=podproc", "-o", "name")
		return strings.TrimSpace(out) == "", out
	})
}
