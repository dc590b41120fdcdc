// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

var nodeNames = []string{"node1", "node2"}

const inject = `annotations: {podproc.io/inject: "true"}`

// pod is a Pod of Tools; meta and spec are lines of YAML. A container's own
// resources are in spec, else it has none.
func pod(name, namespace, node, meta, spec string) string {
	if !strings.Contains(spec, "containers:") {
		spec = "containers: [" + container("app", "") + "]\n  " + spec
	}
	if node != "" {
		spec = "nodeSelector: {kubernetes.io/hostname: " + node + "}\n  " + spec
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %s
  namespace: %s
  %s
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  %s
---
`, name, namespace, meta, spec)
}

// container is one container of Tools that waits, in YAML's short form.
func container(name, resources string, more ...string) string {
	return fmt.Sprintf(`{name: %s, image: %q, command: [sleep, infinity], resources: {%s}%s}`, name, Tools, resources, strings.Join(append([]string{""}, more...), ", "))
}

// small is a Burstable container's.
func small(limits string) string {
	return "requests: {cpu: 10m, memory: 16Mi}, limits: {" + limits + "}"
}

// host is what a node's kernel says, seen from a pod that nobody asked to inject.
func (c *fixture) host(node string) view {
	c.t.Helper()
	name := "plain-" + node
	c.apply(pod(name, "default", node, "", ""), "apply", "-f", "-")
	c.running("default", name)
	v := c.view(name, "app", "default", look)
	if v["mounts"] != "0" {
		c.t.Errorf("%s: a pod without the annotation has %s mounts of podproc", node, v["mounts"])
	}
	delete(v, "used")
	delete(v, "mounts")
	return v
}

// running waits for pods.
func (c *fixture) running(namespace string, names ...string) {
	c.t.Helper()
	args := []string{"wait", "--for=condition=Ready", "--timeout=" + patience.String(), "-n", namespace}
	for _, name := range names {
		args = append(args, "pod/"+name)
	}
	if _, err := c.Kubectl(c.ctx(), "", args...); err != nil {
		c.t.Fatalf("%v\n%s", err, c.kubectl("describe", "pod", "-n", namespace, names[0]))
	}
}

// consumers: every program that reads /proc sees the limits, on both nodes.
func consumers(c *fixture) {
	for _, node := range nodeNames {
		spec := "containers: [" + container("app", small("memory: 256Mi, cpu: 1500m")) + "]"
		c.apply(pod("consumers-"+node, "default", node, inject, spec), "apply", "-f", "-")
	}
	for _, node := range nodeNames {
		name := "consumers-" + node
		c.running("default", name)
		want := limited(256<<10, 2)
		want["vmstat"], want["top"], want["psutil"], want["node"] = "262144", "256.0", "262144 2", "262144 2"
		c.want(name, c.view(name, "app", "default", lookMore), want)
	}
}

// scene is a pod and what its containers shall see.
type scene struct {
	name, namespace, meta, spec string
	want                        map[string]view
}

// scenes: MemTotal in KiB and CPUs by the rules of the README.
func scenes(host view) []scene {
	memory := func(v view) view { // of a container without a CPU limit: the host's CPUs
		for _, name := range []string{"online", "getconf", "cpuinfo", "stat"} {
			v[name] = host[name]
		}
		return v
	}
	unlimited := func() view {
		v := view{"mounts": "5"}
		for name, value := range host {
			v[name] = value
		}
		return v
	}
	one := func(resources string) string { return "containers: [" + container("app", resources) + "]" }
	return []scene{
		{"guaranteed", "default", inject, one("limits: {cpu: 500m, memory: 128Mi}"), map[string]view{"app": limited(128<<10, 1)}},
		{"burstable", "default", inject, one(small("memory: 100Mi")), map[string]view{"app": memory(limited(100<<10, 1))}},
		{"besteffort", "default", inject, one(""), map[string]view{"app": unlimited()}},
		{"by-label", "default", `labels: {podproc.io/inject: "true"}`, one(small("memory: 64Mi, cpu: 1")), map[string]view{"app": limited(64<<10, 1)}},
		{"limitrange", "defaults", inject, one(""), map[string]view{"app": limited(96<<10, 1)}},
		{"namespace", "labelled", "", one(small("memory: 80Mi, cpu: 1")), map[string]view{"app": limited(80<<10, 1)}},
		{"pod-level", "default", inject, "resources: {limits: {memory: 192Mi, cpu: 1}, requests: {cpu: 20m, memory: 32Mi}}\n  " + one(""),
			map[string]view{"app": limited(192<<10, 1)}},
		{"shared-pids", "default", inject, "shareProcessNamespace: true\n  containers: [" +
			container("app", small("memory: 112Mi, cpu: 1")) + ", " + container("other", small("memory: 144Mi, cpu: 1500m")) + "]",
			map[string]view{"app": limited(112<<10, 1), "other": limited(144<<10, 2)}},
		{"host-pid", "default", inject, "hostPID: true\n  " + one(small("memory: 72Mi, cpu: 1")), map[string]view{"app": limited(72<<10, 1)}},
		{"sidecar", "default", inject, "initContainers: [" + container("side", small("memory: 88Mi, cpu: 1"), "restartPolicy: Always") + "]\n  " +
			one(small("memory: 120Mi, cpu: 1")), map[string]view{"app": limited(120<<10, 1), "side": limited(88<<10, 1)}},
	}
}

// pods: each way to run a container that changes what is around it.
func pods(c *fixture) {
	c.apply(`apiVersion: v1
kind: Namespace
metadata: {name: labelled, labels: {podproc.io/inject: "true"}}
---
apiVersion: v1
kind: Namespace
metadata: {name: defaults}
---
apiVersion: v1
kind: LimitRange
metadata: {name: defaults, namespace: defaults}
spec: {limits: [{type: Container, default: {memory: 96Mi, cpu: 500m}, defaultRequest: {memory: 16Mi, cpu: 10m}}]}
`, "apply", "-f", "-")
	for _, namespace := range []string{"labelled", "defaults"} {
		c.eventually("ServiceAccount of "+namespace, func() (bool, string) {
			_, err := c.Kubectl(c.ctx(), "", "get", "serviceaccount", "default", "-n", namespace)
			return err == nil, fmt.Sprint(err)
		})
	}
	for _, node := range nodeNames {
		host := c.host(node)
		// A few at a time: node2 is a slow machine.
		for some := range slices.Chunk(scenes(host), 3) {
			made := ""
			for _, s := range some {
				made += pod(s.name+"-"+node, s.namespace, node, s.meta, s.spec)
			}
			c.apply(made, "apply", "-f", "-")
			for _, s := range some {
				c.t.Run(s.name+"-"+node, func(t *testing.T) { s.play(&fixture{c.Cluster, t}, node) })
			}
			for _, namespace := range []string{"default", "labelled", "defaults"} {
				c.kubectl("delete", "pods", "--all", "-n", namespace, "--now", "--timeout="+patience.String())
			}
		}
	}
	initContainer(c)
}

// play judges a scene whose pod has been made.
func (s scene) play(c *fixture, node string) {
	name := s.name + "-" + node
	c.running(s.namespace, name)
	for container, want := range s.want {
		c.want(name+"/"+container, c.view(name, container, s.namespace, look), want)
	}
}

// initContainer: it is gone by the time one could look, so it looks itself.
func initContainer(c *fixture) {
	for _, node := range nodeNames {
		spec := "restartPolicy: Never\n  volumes: [{name: out, emptyDir: {}}]\n  initContainers: [" +
			fmt.Sprintf(`{name: init, image: %q, command: [bash, -c, "grep MemTotal /proc/meminfo > /out/it"], resources: {%s}, volumeMounts: [{name: out, mountPath: /out}]}`,
				Tools, small("memory: 104Mi, cpu: 1")) +
			"]\n  containers: [" + container("app", small("memory: 64Mi, cpu: 1"), "volumeMounts: [{name: out, mountPath: /out}]") + "]"
		name := "init-" + node
		c.apply(pod(name, "default", node, inject, spec), "apply", "-f", "-")
		c.running("default", name)
		if got := strings.Fields(c.exec(name, "app", "default", "cat /out/it")); len(got) < 2 || got[1] != fmt.Sprint(104<<10) {
			c.t.Errorf("%s: the init container saw %q, want %d", name, got, 104<<10)
		}
		c.kubectl("delete", "pod", name, "--now")
	}
}
