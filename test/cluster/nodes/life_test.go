// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// lives is what each node sees, all of them at the same time.
func lives(c *fixture) {
	c.namespaces()
	c.breakers()
	for _, node := range nodeNames {
		c.t.Run(node, func(t *testing.T) {
			t.Parallel()
			life(&fixture{c.Cluster, t}, node)
		})
	}
}

// life makes all of a node's pods at once, judges them, and then what changes.
func life(c *fixture, node string) {
	made := resized(node) + pod("plain-"+node, "default", node, "", "")
	for _, s := range scenesOn(node, view{}) {
		made += pod(s.name+"-"+node, s.namespace, node, s.meta, s.spec)
	}
	c.apply(made, "apply", "-f", "-")
	all := scenesOn(node, c.host(node))
	for _, s := range all {
		c.t.Run(s.name, func(t *testing.T) { s.play(&fixture{c.Cluster, t}, node) })
	}
	for _, step := range []struct {
		name string
		run  func(*fixture, string)
	}{
		{"usage", usage}, {"resize", resize}, {"debug", debug},
	} {
		c.t.Run(step.name, func(t *testing.T) { step.run(&fixture{c.Cluster, t}, node) })
	}
	// Its CPU is to be free.
	c.kubectl("delete", "pod", "guaranteed-"+node, "--now", "--timeout="+patience.String())
	c.forget("resize-" + node)
	for _, s := range all {
		if s.name != "burstable" && s.name != "guaranteed" {
			c.forget(s.name+"-"+node, "-n", s.namespace)
		}
	}
	c.t.Run("exclusive CPUs", func(t *testing.T) { exclusive(&fixture{c.Cluster, t}, node) })
	burstable := all[slices.IndexFunc(all, func(s scene) bool { return s.name == "burstable" })]
	c.t.Run("no more exclusive CPUs", func(t *testing.T) { shared(&fixture{c.Cluster, t}, node, burstable.want["app"]["online"]) })
	if node == "node2" {
		c.t.Run("reboot", func(t *testing.T) { reboot(&fixture{c.Cluster, t}, burstable) })
	}
	c.forget("burstable-" + node)
}

// scenesOn are the scenes that a node plays: in the short form node2, which is
// slow, leaves those to node1 that are about what all nodes have in common.
func scenesOn(node string, host view) []scene {
	return slices.DeleteFunc(scenes(host), func(s scene) bool { return s.anywhere && node != "node1" && !soak })
}

// forget deletes a pod without waiting for the node.
func (c *fixture) forget(pod string, more ...string) {
	c.t.Helper()
	c.kubectl(append([]string{"delete", "pod", pod, "--grace-period=0", "--force", "--wait=false"}, more...)...)
}

// host is what a node's kernel says, seen from a pod that nobody asked to inject.
func (c *fixture) host(node string) view {
	c.t.Helper()
	name := "plain-" + node
	c.running("default", name)
	v := c.looked(name, "app", "default")
	if v["mounts"] != "0" {
		c.t.Errorf("%s: a pod without the annotation has %s mounts of podproc", node, v["mounts"])
	}
	delete(v, "used")
	delete(v, "mounts")
	delete(v, "looked")
	delete(v, "said")
	c.forget(name)
	return v
}

// breakers are pods that may do anything to their nodes, and see all of them.
func (c *fixture) breakers() {
	c.t.Helper()
	made := ""
	for _, node := range nodeNames {
		made += pod("breaker-"+node, "default", node, "", "hostPID: true\n  hostNetwork: true\n  containers: ["+
			program("app", "", "exec sleep infinity", "securityContext: {privileged: true}")+"]")
	}
	c.apply(made, "apply", "-f", "-")
	for _, node := range nodeNames {
		c.running("default", "breaker-"+node)
	}
}

// on runs a script in a node's breaker.
func (c *fixture) on(node, script string) (string, error) {
	return c.Kubectl(c.ctx(), "", "exec", "breaker-"+node, "--", "bash", "-c", script)
}

// serving are podproc's processes on a node, for pgrep -f. Not their names: one
// that has executed itself anew is called exe.
const serving = "^/podproc-node serve"

// traces of podproc on a node.
type traces struct {
	node       int // mounts in the node's namespace
	kernel     int // of them the tree that is seen while nobody serves
	processes  int // podproc-node
	own        int // mounts of the file system that they have
	containers int // processes of containers that see a file of it
}

// traces looks for them.
func (c *fixture) traces(node string) (t traces) {
	c.t.Helper()
	out, err := c.on(node, `
count() { grep -c "$@" 2> /dev/null || true; }
own=0; containers=0; host=$(readlink /proc/1/ns/mnt)
pids=$(pgrep -f '`+serving+`')
for p in $pids; do own=$((own + $(count ' - fuse.podproc ' /proc/$p/mountinfo))); done
for f in $(grep -ls ' - fuse.podproc ' /proc/[0-9]*/mountinfo); do
	[ "$(readlink ${f%/mountinfo}/ns/mnt)" = "$host" ] && continue
	# Before Linux 6.5 a dead mount may stay, below another one.
	awk '{ top[$5] = / - fuse.podproc / } END { for (p in top) n += top[p]; exit !n }' $f && containers=$((containers + 1))
done
# A node that is namespaces of this machine has got other mounts of podproc from it.
echo traces $(count ' /run/podproc/fs .* - fuse.podproc ' /proc/1/mountinfo) $(count ' /run/podproc/fs.* - [a-z]* podproc-' /proc/1/mountinfo) $(echo $pids | wc -w) $own $containers`)
	if err != nil {
		c.t.Fatal(err)
	}
	_, numbers, _ := strings.Cut(out, "traces ")
	if _, err := fmt.Sscan(numbers, &t.node, &t.kernel, &t.processes, &t.own, &t.containers); err != nil {
		c.t.Fatalf("traces on %s: %v: %q", node, err, out)
	}
	return t
}
