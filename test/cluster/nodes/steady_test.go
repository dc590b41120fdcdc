// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// reader reads MemTotal every 10 ms, each time anew and from a descriptor that
// it holds, and keeps account in /tmp/result.
const reader = `
import json, os, time
held = os.open("/proc/meminfo", os.O_RDONLY)
result = dict(reads=0, errors=[], held=[], values=[], longest=0)
def total(text):
    return int(text.split(None, 2)[1])
def once():
    with open("/proc/meminfo", "rb", buffering=0) as f:
        return total(f.read(4096))
written = 0
while True:
    begin = time.monotonic()
    try:
        value = once()
        if value not in result["values"][-1:]:
            result["values"].append(value)
    except Exception as e:
        result["errors"].append("%s after %d reads" % (e, result["reads"]))
    try:
        total(os.pread(held, 4096, 0))
    except Exception as e:
        result["held"].append(str(e))
    result["reads"] += 1
    now = time.monotonic()
    result["longest"] = max(result["longest"], now - begin)
    if now - written > 0.2:
        written = now
        with open("/tmp/part", "w") as f:
            json.dump(result, f)
        os.rename("/tmp/part", "/tmp/result")
    time.sleep(0.01)
`

// account is what a reader has to say.
type account struct {
	Reads        int
	Errors, Held []string
	Values       []int
	Longest      float64
}

const readerMemory = 168 << 10 // KiB

// startReaders starts a reader and a pod that may do anything, on each node.
func (c *fixture) startReaders() {
	c.t.Helper()
	made := ""
	for _, node := range nodeNames {
		script, err := json.Marshal(reader)
		if err != nil {
			c.t.Fatal(err)
		}
		spec := fmt.Sprintf(`containers: [{name: app, image: %q, command: [python3, -c, %s], resources: {%s}}]`, Tools, script, small("memory: 168Mi, cpu: 500m"))
		made += pod("reader-"+node, "default", node, inject, spec)
		made += pod("breaker-"+node, "default", node, "", "hostPID: true\n  containers: ["+container("app", "", "securityContext: {privileged: true}")+"]")
	}
	c.apply(made, "apply", "-f", "-")
	for _, node := range nodeNames {
		c.running("default", "reader-"+node, "breaker-"+node)
		c.readOn(node, 0)
	}
}

// readOn waits until a reader has read some more, and returns its account.
func (c *fixture) readOn(node string, since int) (a account) {
	c.t.Helper()
	c.eventually("the reader on "+node+" reads on", func() (bool, string) {
		out, err := c.Kubectl(c.ctx(), "", "exec", "reader-"+node, "--", "cat", "/tmp/result")
		if err != nil {
			return false, err.Error()
		}
		a = account{}
		if err := json.Unmarshal([]byte(out), &a); err != nil {
			return false, err.Error()
		}
		return a.Reads > since+10, out
	})
	return a
}

// steady: whatever happens to podproc's processes and to the node's, no read
// fails and none says something else.
func steady(c *fixture) {
	c.startReaders()
	roll := func() {
		for _, workload := range []string{"daemonset/podproc-node", "daemonset/podproc-standby"} {
			c.rollout(workload, "podproc")
		}
	}
	end := func(components string) {
		c.kubectl("delete", "pods", "-n", "podproc", "-l", "app.kubernetes.io/component in ("+components+")", "--timeout="+patience.String())
	}
	kill := func(program string) {
		for _, node := range nodeNames {
			_, _ = c.Kubectl(c.ctx(), "", "exec", "breaker-"+node, "--", "pkill", "-x", program) // may end before it answers
		}
		for _, node := range nodeNames {
			c.eventually(program+" is back on "+node, func() (bool, string) {
				out, err := c.Kubectl(c.ctx(), "", "exec", "breaker-"+node, "--", "true")
				return err == nil, fmt.Sprint(out, err)
			})
		}
	}
	for _, event := range []struct {
		name string
		do   func()
	}{
		{"the active ones are deleted", func() { end("node") }},
		{"the standbys are deleted", func() { end("standby") }},
		{"both are deleted", func() { end("node, standby") }},
		{"both roll", func() { c.kubectl("rollout", "restart", "daemonset", "-n", "podproc") }},
		{"kubelet is restarted", func() { kill("kubelet") }},
		{"containerd is restarted", func() { kill("containerd") }},
	} {
		begin := time.Now()
		event.do()
		roll()
		for _, node := range nodeNames {
			a := c.readOn(node, c.readOn(node, 0).Reads)
			if len(a.Errors)+len(a.Held) > 0 || !slices.Equal(a.Values, []int{readerMemory}) {
				c.t.Fatalf("%s: the reader on %s has seen %v, errors %v, on its open descriptor %v", event.name, node, a.Values, a.Errors, a.Held)
			}
			c.t.Logf("%s: %.0f s, %s: %d reads, 0 failed, the longest took %.0f ms", event.name, time.Since(begin).Seconds(), node, a.Reads, a.Longest*1000)
		}
	}
}

// uninstall: what was installed is gone, and pods that were injected read the
// kernel's own file from then on. They still do after their descriptors, opened
// before, have failed once.
func uninstall(c *fixture) {
	hosts := make(map[string]string)
	for _, node := range nodeNames {
		hosts[node] = c.host(node)["meminfo"]
	}
	c.kubectl("delete", "-f", c.manifest("podproc.yaml"), "--timeout="+patience.String())
	c.nothingLeft()
	for _, node := range nodeNames {
		a := c.readOn(node, c.readOn(node, 0).Reads)
		want := fmt.Sprintf("[%d %s]", readerMemory, hosts[node])
		if len(a.Errors) > 0 || fmt.Sprint(a.Values) != want {
			c.t.Errorf("uninstalled: the reader on %s has seen %v, want %s, and errors %v", node, a.Values, want, a.Errors)
		}
		out := c.kubectl("exec", "breaker-"+node, "--", "bash", "-c", "grep -c podproc /proc/1/mountinfo; grep -l ' - fuse.podproc ' /proc/[0-9]*/mountinfo 2>/dev/null | wc -l")
		c.t.Logf("%s: %d reads; mounts of podproc left on the node and in containers: %s", node, a.Reads, strings.Fields(out))
		if fields := strings.Fields(out); len(fields) != 2 || fields[1] != "0" {
			c.t.Errorf("%s: processes that still have a mount of podproc: %s", node, out)
		}
	}
	c.kubectl("delete", "pods", "--all", "--now", "--timeout="+patience.String())
}
