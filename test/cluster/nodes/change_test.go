// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"strconv"
	"strings"
	"time"
)

// resized is the pod of resize and debug.
func resized(node string) string {
	return pod("resize-"+node, "default", node, inject, "containers: ["+container("app", small("memory: 128Mi, cpu: 500m"))+"]")
}

// resize: a pod resized in place sees its new limits without a restart.
func resize(c *fixture, node string) {
	name := "resize-" + node
	c.running("default", name)
	c.want(name, c.looked(name, "app", "default"), limited(128<<10, 1))
	c.kubectl("patch", "pod", name, "--subresource=resize", "--patch",
		`{"spec": {"containers": [{"name": "app", "resources": {"limits": {"memory": "160Mi", "cpu": "1500m"}}}]}}`)
	got := c.view(name, "app", "default", `for i in {1..200}; do
		[ "$(awk '/^MemTotal/ { print $2 }' /proc/meminfo) $(cat /sys/devices/system/cpu/online)" = "163840 0-1" ] && break; sleep 0.5; done
`+look)
	c.want(name, got, limited(160<<10, 2))
	if got := c.kubectl("get", "pod", name, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); got != "0" {
		c.t.Errorf("%s was restarted %s times", name, got)
	}
}

// accounted is the kernel's own count of a container's CPU time in ms.
const accounted = `{ awk '/^usage_usec/{print int($2/1000)}' /sys/fs/cgroup/cpu.stat || awk '{print int($1/1000000)}' /sys/fs/cgroup/cpuacct/cpuacct.usage; } 2>/dev/null`

// busy is what /proc/stat says of it, in ms.
const busy = `awk '/^cpu /{print ($2+$3+$4)*10}' /proc/stat`

// usage: /proc/stat counts the container's CPU time and nobody else's, though
// it sees the other's processes.
func usage(c *fixture, node string) {
	name := "shared-pids-" + node
	const both = "$(" + accounted + ") $(" + busy + ")"
	before := c.numbers(name, "other", "echo "+both)
	// Burn until the kernel has counted two seconds more, then wait: a file
	// may be 100 ms old.
	got := c.numbers(name, "app", `a="`+both+`"; set -- $a; while [ $(`+accounted+`) -lt $(($1 + 2000)) ]; do :; done; sleep 1; echo $a `+both)
	idle := append(before, c.numbers(name, "other", "echo "+both)...)
	for container, n := range map[string][]int{"app": got, "other": idle} {
		if len(n) != 4 {
			c.t.Fatalf("%s/%s: %v", name, container, n)
		}
		// The tick counts a v1 container's user and system time by samples; a
		// quarter is far more than it errs, and far less than anything else running.
		used, shown := n[2]-n[0], n[3]-n[1]
		if shown < used*3/4-300 || shown > used*5/4+300 {
			c.t.Errorf("%s/%s: /proc/stat has counted %d ms while the kernel counted %d ms", name, container, shown, used)
		}
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
func exclusive(c *fixture, node string) {
	name := "exclusive-" + node
	spec := "containers: [" + program("app", "limits: {cpu: 1, memory: 64Mi}", "echo nproc=$(nproc)\n"+look+"exec sleep infinity") + "]"
	c.apply(pod(name, "default", node, inject, spec), "apply", "-f", "-")
	c.running("default", name)
	want := limited(64<<10, 1)
	want["nproc"] = "1"
	c.want(name, c.looked(name, "app", "default"), want)
	c.kubectl("delete", "pod", name, "--now", "--timeout="+patience.String())
}

// shared: the CPU that was another pod's alone is everybody's again, as soon as
// the kubelet has seen that it is free (it looks every ten seconds, and would
// keep it over a reboot before).
func shared(c *fixture, node, want string) {
	name := "burstable-" + node
	got := c.exec(name, "app", "default", `for i in {1..600}; do [ "$(cat /sys/devices/system/cpu/online)" = `+want+` ] && break; sleep 0.5; done
cat /sys/devices/system/cpu/online`)
	if strings.TrimSpace(got) != want {
		c.t.Errorf("%s has the CPUs %q, want %s", name, got, want)
	}
}

// debug: a container added by kubectl debug sees the files where its pod does.
func debug(c *fixture, node string) {
	name := "resize-" + node
	c.kubectl("debug", name, "--image="+Tools, "--container=debugger", "--image-pull-policy=IfNotPresent", "--profile=general", "--", "bash", "-c", look+"exec sleep infinity")
	c.eventually("the debugger runs", func() (bool, string) {
		out := c.kubectl("get", "pod", name, "-o", "jsonpath={.status.ephemeralContainerStatuses[0].state}")
		return strings.Contains(out, "running"), out
	})
	// It has no limits of its own; those of the pod hold.
	c.want(name+"/debugger", c.looked(name, "debugger", "default"), limited(160<<10, 2))
}

// boot has node2 boot again.
func (c *fixture) boot() {
	c.t.Helper()
	boot := func() string {
		return c.kubectl("get", "node", "node2", "-o", "jsonpath={.status.nodeInfo.bootID}")
	}
	breaker := func() (restarts, state string) {
		out := c.kubectl("get", "pod", "breaker-node2", "-o", "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state}")
		restarts, state, _ = strings.Cut(out, " ")
		return restarts, state
	}
	c.running("default", "breaker-node2")
	before := boot()
	restarts, _ := breaker()
	boots, hangs := c.vm.boots.Load(), time.Now().Add(2*time.Minute)
	// At once, as a power cut, but for what is on its disk: u, which only begins
	// to, has all of it written and mounted read-only. The answer to this exec may
	// never come.
	_, _ = c.on("node2", `(sleep 1; sync; echo u > /proc/sysrq-trigger
		for i in {1..300}; do grep -q ' ext4 rw' /proc/1/mounts || break; sleep 0.2; done; echo b > /proc/sysrq-trigger) > /dev/null 2>&1 &`)
	c.eventually("node2 boots again", func() (bool, string) {
		if c.vm.boots.Load() == boots && time.Now().After(hangs) { // see machine.Machine
			hangs = hangs.Add(2 * time.Minute)
			c.t.Logf("node2 does not come up, and is reset: %v", c.vm.reset())
		}
		now := boot()
		return now != before, now
	})
	c.eventually("its breaker is back", func() (bool, string) {
		now, state := breaker()
		return now != restarts && strings.Contains(state, "running"), now + state
	})
}

// reboot: node2 reboots with an injected pod on it, and nothing needs a hand.
func reboot(c *fixture, s scene) {
	name := s.name + "-node2"
	c.boot()
	c.eventually("its pods are back", func() (bool, string) {
		out := c.kubectl("get", "pod", name, "-o", "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state}")
		return strings.HasPrefix(out, "1 ") && strings.Contains(out, "running"), out
	})
	c.running("default", name, "breaker-node2")
	c.rolled()
	c.want(name, c.looked(name, "app", "default"), s.want["app"])
	if got := c.kubectl("get", "pod", name, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); got != "1" {
		c.t.Errorf("the pod was restarted %s times by one reboot", got)
	}
}
