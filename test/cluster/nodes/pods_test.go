// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"fmt"
	"strconv"
	"strings"
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

// container is one container of Tools, in YAML's short form. It looks around,
// which a log is cheaper to show than an exec, and waits.
func container(name, resources string, more ...string) string {
	return program(name, resources, look+"exec sleep infinity", more...)
}

// program is one container of Tools that runs a script.
func program(name, resources, script string, more ...string) string {
	return fmt.Sprintf(`{name: %s, image: %q, command: [bash, -c, %q], resources: {%s}%s}`, name, Tools, script, resources, strings.Join(append([]string{""}, more...), ", "))
}

// small is a Burstable container's.
func small(limits string) string {
	return "requests: {cpu: 10m, memory: 16Mi}, limits: {" + limits + "}"
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

// scene is a pod and what its containers shall see.
type scene struct {
	name, namespace, meta, spec string
	want                        map[string]view
	anywhere                    bool // what it is about is the same on every node
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
	app := func(v view) map[string]view { return map[string]view{"app": v} }
	asked := limited(68<<10, 1)
	asked["mounts"], asked["uptime"], asked["loadavg"], asked["diskstats"] = "8", "its own", "its own", "read"
	return []scene{
		{"guaranteed", "default", inject, one("limits: {cpu: 500m, memory: 128Mi}"), app(limited(128<<10, 1)), false},
		{"burstable", "default", inject, one(small("memory: 100Mi")), app(memory(limited(100<<10, 1))), false},
		{"besteffort", "default", inject, one(""), app(unlimited()), false},
		{"by-label", "default", `labels: {podproc.io/inject: "true"}`, one(small("memory: 64Mi, cpu: 1")), app(limited(64<<10, 1)), true},
		{"limitrange", "defaults", inject, one(""), app(limited(96<<10, 1)), true},
		{"namespace", "labelled", "", one(small("memory: 80Mi, cpu: 1")), app(limited(80<<10, 1)), true},
		{"pod-level", "default", inject, "resources: {limits: {memory: 192Mi, cpu: 1}, requests: {cpu: 20m, memory: 32Mi}}\n  " + one(""), app(limited(192<<10, 1)), false},
		{"shared-pids", "default", inject, "shareProcessNamespace: true\n  containers: [" +
			container("app", small("memory: 112Mi, cpu: 1")) + ", " + container("other", small("memory: 144Mi, cpu: 1500m")) + "]",
			map[string]view{"app": limited(112<<10, 1), "other": limited(144<<10, 2)}, false},
		{"host-pid", "default", inject, "hostPID: true\n  " + one(small("memory: 72Mi, cpu: 1")), app(limited(72<<10, 1)), true},
		{"sidecar", "default", inject, "initContainers: [" + container("side", small("memory: 88Mi, cpu: 1"), "restartPolicy: Always") + "]\n  " +
			one(small("memory: 120Mi, cpu: 1")), map[string]view{"app": limited(120<<10, 1), "side": limited(88<<10, 1)}, true},
		{"init", "default", inject, "initContainers: [" + program("first", small("memory: 104Mi, cpu: 1"), look) + "]\n  " + one(small("memory: 60Mi, cpu: 1")),
			map[string]view{"first": limited(104<<10, 1), "app": limited(60<<10, 1)}, true},
		{"on-request", "default", `annotations: {podproc.io/inject: "true", podproc.io/files: "default,loadavg,uptime,diskstats"}`,
			"containers: [" + program("app", small("memory: 68Mi, cpu: 1"), lookAsked+"exec sleep infinity") + "]", app(asked), false},
		{"consumers", "default", inject, "containers: [" + program("app", small("memory: 256Mi, cpu: 1"), lookMore+"exec sleep infinity") + "]", app(consumers(host)), false},
	}
}

// consumers is what every program that reads /proc shall see, and what those do
// that ask the kernel.
func consumers(host view) view {
	v := limited(256<<10, 1)
	v["vmstat"], v["top"], v["psutil"], v["node"], v["java"] = "262144", "256.0", "262144 1", "262144 1", "256M 1"
	machine, _ := strconv.Atoi(host["meminfo"])
	v["java-blind"] = fmt.Sprintf("%dM %s", machine>>10, host["getconf"])
	return v
}

// namespaces are those of the scenes.
func (c *fixture) namespaces() {
	c.t.Helper()
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
}

// play judges a scene whose pod has been made.
func (s scene) play(c *fixture, node string) {
	name := s.name + "-" + node
	c.running(s.namespace, name)
	for container, want := range s.want {
		c.want(name+"/"+container, c.looked(name, container, s.namespace), want)
	}
}
