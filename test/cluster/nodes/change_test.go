// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"fmt"
	"strconv"
	"strings"
)

// resize: a pod resized in place sees its new limits without a restart.
func resize(c *fixture) {
	for _, node := range nodeNames {
		name := "resize-" + node
		c.apply(pod(name, "default", node, inject, "containers: ["+container("app", small("memory: 128Mi, cpu: 500m"))+"]"), "apply", "-f", "-")
		c.running("default", name)
		c.want(name, c.view(name, "app", "default", look), limited(128<<10, 1))
		c.kubectl("patch", "pod", name, "--subresource=resize", "--patch",
			`{"spec": {"containers": [{"name": "app", "resources": {"limits": {"memory": "160Mi", "cpu": "1500m"}}}]}}`)
		c.eventually(name+" sees its new limits", func() (bool, string) {
			v := c.view(name, "app", "default", look)
			return v["meminfo"] == fmt.Sprint(160<<10) && v["cpuinfo"] == "2", fmt.Sprint(v)
		})
		c.want(name, c.view(name, "app", "default", look), limited(160<<10, 2))
		if got := c.kubectl("get", "pod", name, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); got != "0" {
			c.t.Errorf("%s was restarted %s times", name, got)
		}
		c.kubectl("delete", "pod", name, "--now")
	}
}

// accounted is the kernel's own count of a container's CPU time in ms.
const accounted = `{ awk '/^usage_usec/{print int($2/1000)}' /sys/fs/cgroup/cpu.stat || awk '{print int($1/1000000)}' /sys/fs/cgroup/cpuacct/cpuacct.usage; } 2>/dev/null`

// busy is what /proc/stat says of it, in ms.
const busy = `awk '/^cpu /{print ($2+$3+$4)*10}' /proc/stat`

// usage: /proc/stat counts the container's CPU time and nobody else's.
func usage(c *fixture) {
	for _, node := range nodeNames {
		name := "usage-" + node
		spec := "containers: [" + container("app", small("memory: 64Mi, cpu: 500m")) + ", " + container("idle", small("memory: 64Mi, cpu: 500m")) + "]"
		c.apply(pod(name, "default", node, inject, spec), "apply", "-f", "-")
		c.running("default", name)
		idle := c.numbers(name, "idle", busy)[0]
		// Burn until the kernel has counted two seconds more, then wait: a file
		// may be 100 ms old.
		got := c.numbers(name, "app", `a=$(`+accounted+`); b=$(`+busy+`); while [ $(`+accounted+`) -lt $((a + 2000)) ]; do :; done; sleep 1; echo $a $b $(`+accounted+`) $(`+busy+`)`)
		if len(got) != 4 {
			c.t.Fatalf("%s: %v", name, got)
		}
		used, shown := got[2]-got[0], got[3]-got[1]
		// The tick counts a v1 container's user and system time by samples; a
		// quarter is far more than it errs, and far less than anything else running.
		if shown < used*3/4 || shown > used*5/4+200 {
			c.t.Errorf("%s: /proc/stat has counted %d ms while the kernel counted %d ms", name, shown, used)
		}
		if grown := c.numbers(name, "idle", busy)[0] - idle; grown > shown/2 {
			c.t.Errorf("%s: /proc/stat of the idle container has counted %d ms", name, grown)
		}
		c.kubectl("delete", "pod", name, "--now")
	}
}

func (c *fixture) numbers(pod, container, script string) []int {
	c.t.Helper()
	var out []int
	for _, word := range strings.Fields(c.exec(pod, container, "default", script)) {
		n, err := strconv.Atoi(word)
		if err != nil {
			c.t.Fatalf("%s: %q is not a number", pod, word)
		}
		out = append(out, n)
	}
	return out
}

// exclusive: with CPUs of its own, nproc agrees with all files.
func exclusive(c *fixture) {
	for _, node := range nodeNames {
		name := "exclusive-" + node
		c.apply(pod(name, "default", node, inject, "containers: ["+container("app", "limits: {cpu: 1, memory: 64Mi}")+"]"), "apply", "-f", "-")
		c.running("default", name)
		c.want(name, c.view(name, "app", "default", look), limited(64<<10, 1))
		if got := strings.TrimSpace(c.exec(name, "app", "default", "nproc")); got != "1" {
			c.t.Errorf("%s: nproc says %s, want the one CPU it has", name, got)
		}
		c.kubectl("delete", "pod", name, "--now")
	}
}

// debug: a container added by kubectl debug sees the files where its pod does.
func debug(c *fixture) {
	for _, node := range nodeNames {
		name := "debug-" + node
		c.apply(pod(name, "default", node, inject, "containers: ["+container("app", small("memory: 136Mi, cpu: 1"))+"]"), "apply", "-f", "-")
		c.running("default", name)
		c.kubectl("debug", name, "--image="+Tools, "--container=debugger", "--image-pull-policy=IfNotPresent", "--profile=general", "--", "sleep", "infinity")
		c.eventually("the debugger runs", func() (bool, string) {
			out := c.kubectl("get", "pod", name, "-o", "jsonpath={.status.ephemeralContainerStatuses[0].state}")
			return strings.Contains(out, "running"), out
		})
		// It has no limits of its own; those of the pod hold.
		c.want(name+"/debugger", c.view(name, "debugger", "default", look), limited(136<<10, 1))
		c.kubectl("delete", "pod", name, "--now")
	}
}

// reboot: node2 reboots with injected pods on it, and nothing needs a hand.
func reboot(c *fixture) {
	spec := "containers: [" + container("app", small("memory: 152Mi, cpu: 1")) + "]"
	c.apply(pod("stays", "default", "node2", inject, spec)+
		pod("breaker", "default", "node2", "", "containers: ["+container("app", "", "securityContext: {privileged: true}")+"]"), "apply", "-f", "-")
	c.running("default", "stays", "breaker")
	boot := func() string {
		return c.kubectl("get", "node", "node2", "-o", "jsonpath={.status.nodeInfo.bootID}")
	}
	before := boot()
	// The answer to this exec may never come.
	_, _ = c.Kubectl(c.ctx(), "", "exec", "breaker", "--request-timeout=20s", "--", "bash", "-c", "sync; (sleep 1; echo b > /proc/sysrq-trigger) &")
	c.eventually("node2 boots again", func() (bool, string) { now := boot(); return now != before, now })
	c.eventually("its pods are back", func() (bool, string) {
		out := c.kubectl("get", "pod", "stays", "-o", "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state}")
		return strings.HasPrefix(out, "1 ") && strings.Contains(out, "running"), out
	})
	c.running("default", "stays")
	c.rollout("daemonset/podproc-node", "podproc")
	c.rollout("daemonset/podproc-standby", "podproc")
	c.eventually("the pod sees its limits again", func() (bool, string) {
		v := c.view("stays", "app", "default", look)
		return v["meminfo"] == fmt.Sprint(152<<10), fmt.Sprint(v)
	})
	c.want("stays", c.view("stays", "app", "default", look), limited(152<<10, 1))
	if got := c.kubectl("get", "pod", "stays", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); got != "1" {
		c.t.Errorf("the pod was restarted %s times by one reboot", got)
	}
	c.kubectl("delete", "pods", "stays", "breaker", "--now")
}
