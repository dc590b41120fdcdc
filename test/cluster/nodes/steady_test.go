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

// reader reads MemTotal again and again, each time anew and from a descriptor
// that it holds, and keeps account in /tmp/result. What it holds it opens again
// once it has failed.
const reader = `
import json, os, sys, time
pause = float(sys.argv[1])
held = None
result = dict(reads=0, errors=[], failed=0, held=[], values=[], longest=0, outage=0)
def total(text):
    return int(text.split(None, 2)[1])
def once():
    with open("/proc/meminfo", "rb", buffering=0) as f:
        return total(f.read(4096))
written = good = time.monotonic()
while True:
    begin = time.monotonic()
    try:
        value = once()
        now = time.monotonic()
        result["outage"] = max(result["outage"], now - good)
        good = now
        if value not in result["values"][-1:]:
            result["values"].append(value)
    except Exception as e:
        result["failed"] += 1
        if len(result["errors"]) < 10:
            result["errors"].append("%s after %d reads" % (e, result["reads"]))
    try:
        if held is None:
            held = os.open("/proc/meminfo", os.O_RDONLY)
        total(os.pread(held, 4096, 0))
    except Exception as e:
        if len(result["held"]) < 10:
            result["held"].append(str(e))
        if held is not None:
            os.close(held)
        held = None
    result["reads"] += 1
    now = time.monotonic()
    result["longest"] = max(result["longest"], now - begin)
    if now - written > 0.3:
        written = now
        with open("/tmp/part", "w") as f:
            json.dump(result, f)
        os.rename("/tmp/part", "/tmp/result")
    time.sleep(pause)
`

// account is what a reader has to say, times in seconds.
type account struct {
	Reads, Failed int
	Errors, Held  []string
	Values        []int
	Longest       float64
	Outage        float64 // between two reads that did not fail
}

const readerMemory = 168 << 10 // KiB

// pauseOn is the time between reads: node2 has other things to do, too.
func pauseOn(node string) string {
	if node == "node2" && !soak {
		return "0.05"
	}
	return "0.01"
}

// startReaders starts a reader on each node.
func (c *fixture) startReaders() {
	c.t.Helper()
	// After a reboot the API server may still have a connection to a replica
	// that was there before.
	c.rollout("deployment/podproc-webhook", "podproc")
	c.asked()
	made := ""
	for _, node := range nodeNames {
		spec := fmt.Sprintf(`containers: [{name: app, image: %q, command: [python3, -c, %q, %q], resources: {%s}}]`, Tools, reader, pauseOn(node), small("memory: 168Mi, cpu: 500m"))
		made += pod("reader-"+node, "default", node, inject, spec)
	}
	c.apply(made, "apply", "-f", "-")
	for _, node := range nodeNames {
		c.running("default", "reader-"+node)
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

// accounts reads on, on both nodes.
func (c *fixture) accounts() map[string]account {
	c.t.Helper()
	all := make(map[string]account)
	for _, node := range nodeNames {
		all[node] = c.readOn(node, 0)
	}
	for _, node := range nodeNames {
		all[node] = c.readOn(node, all[node].Reads)
	}
	return all
}

// rolled waits until podproc is on all nodes as it shall be.
func (c *fixture) rolled() {
	c.t.Helper()
	for _, workload := range []string{"daemonset/podproc-node", "daemonset/podproc-standby"} {
		c.rollout(workload, "podproc")
	}
}

// event is something that happens to podproc or to the nodes, which no reader
// is to notice.
type event struct {
	name string
	do   func(*fixture)
}

// steady: whatever happens to podproc's processes and to the node's, no read
// fails and none says something else.
func steady(c *fixture) {
	c.startReaders()
	end := func(components string) func(*fixture) {
		return func(c *fixture) {
			c.kubectl("delete", "pods", "-n", "podproc", "-l", "app.kubernetes.io/component in ("+components+")", "--timeout="+patience.String())
		}
	}
	events := []event{
		{"both are deleted", end("node, standby")},
		{"both are upgraded", func(c *fixture) { c.upgrade(c.next) }},
		{"kubelet and containerd are restarted", func(c *fixture) { c.restart("kubelet", "containerd") }},
	}
	if soak {
		events = append([]event{
			{"the active ones are deleted", end("node")},
			{"the standbys are deleted", end("standby")},
			{"both roll", func(c *fixture) { c.kubectl("rollout", "restart", "daemonset", "-n", "podproc") }},
			{"kubelet is restarted", func(c *fixture) { c.restart("kubelet") }},
			{"containerd is restarted", func(c *fixture) { c.restart("containerd") }},
		}, events...)
	}
	for _, e := range events {
		c.calm(e)
	}
	c.tidy()
}

// calm has an event happen, and judges what readers have seen of it.
func (c *fixture) calm(e event) {
	c.t.Helper()
	begin := time.Now()
	e.do(c)
	c.rolled()
	after := c.accounts()
	for _, node := range nodeNames {
		a := after[node]
		if len(a.Errors)+len(a.Held) > 0 || !slices.Equal(a.Values, []int{readerMemory}) {
			c.t.Fatalf("%s: the reader on %s has seen %v, errors %v, on its open descriptor %v", e.name, node, a.Values, a.Errors, a.Held)
		}
		c.t.Logf("%s: %.0f s, %s: %d reads, 0 failed, the longest took %.0f ms", e.name, time.Since(begin).Seconds(), node, a.Reads, a.Longest*1000)
	}
}

// upgrade has both DaemonSets run another image.
func (c *fixture) upgrade(image string) {
	c.t.Helper()
	for _, name := range []string{"podproc-node", "podproc-standby"} {
		c.kubectl("set", "image", "-n", "podproc", "daemonset/"+name, "podproc="+image)
	}
}

// restart ends the nodes' programs, which are started again.
func (c *fixture) restart(programs ...string) {
	c.t.Helper()
	one := strings.Join(programs, "|")
	pids := make(map[string]string)
	for _, node := range nodeNames {
		out, err := c.on(node, "pgrep -x '"+one+"'")
		if err != nil {
			c.t.Fatal(err)
		}
		pids[node] = out
		_, _ = c.on(node, "pkill -x '"+one+"'") // may end before it answers
	}
	for _, node := range nodeNames {
		c.eventually(one+" are back on "+node, func() (bool, string) {
			out, err := c.on(node, "pgrep -x '"+one+"'")
			return err == nil && out != pids[node] && strings.Count(out, "\n") == len(programs), fmt.Sprint(pids[node], out, err)
		})
	}
}

// tidy: nothing has piled up. Processes that have stepped back end, or become
// the other one's standby, in their own time.
func (c *fixture) tidy() {
	c.t.Helper()
	for _, node := range nodeNames {
		c.eventually("only what is needed is on "+node, func() (bool, string) {
			t := c.traces(node)
			return t == traces{node: 1, kernel: 3, processes: 2, own: 0, containers: 1}, fmt.Sprintf("%+v", t)
		})
	}
}

// killed: both processes of a node are killed at once. Reads fail until one is
// back, and never show the node's numbers; then they are right again, in the
// container as it is.
func killed(c *fixture) {
	before := c.accounts()
	for _, node := range nodeNames {
		// The kubelet is held up, for there must be a time without any.
		if out, err := c.on(node, "pkill -STOP -x kubelet; pkill -KILL -f '"+serving+"'; killed=$?; sleep 1; pkill -CONT -x kubelet; exit $killed"); err != nil {
			c.t.Fatal(err, out)
		}
	}
	for _, node := range nodeNames {
		c.eventually("reads fail, and do no more, on "+node, func() (bool, string) {
			a := c.readOn(node, 0)
			b := c.readOn(node, a.Reads)
			return a.Failed > before[node].Failed && a.Failed == b.Failed, fmt.Sprint(b)
		})
	}
	c.rolled()
	after := c.accounts()
	for _, node := range nodeNames {
		a := after[node]
		if !slices.Equal(a.Values, []int{readerMemory}) {
			c.t.Errorf("after both were killed the reader on %s has seen %v", node, a.Values)
		}
		c.t.Logf("both are killed, %s: %d of %d reads failed, for %.0f ms", node, a.Failed, a.Reads, a.Outage*1000)
	}
	c.tidy()
}

// uninstall: what was installed is gone, and pods that were injected read the
// kernel's own file from then on. They still do after their descriptors, opened
// before, have failed once.
func uninstall(c *fixture) {
	// Its namespace takes half a minute longer than all that is in it.
	c.gone(func() { c.kubectl("delete", "-f", c.manifest("podproc.yaml"), "--wait=false") })
}

// bootedWithout: the next boot of a node that podproc was removed from leaves
// nothing of it.
func bootedWithout(c *fixture) {
	for _, node := range nodeNames {
		c.kubectl("delete", "pod", "reader-"+node, "--now", "--timeout="+patience.String())
	}
	c.boot()
	c.running("default", "breaker-node2")
	if got := c.traces("node2"); got != (traces{}) {
		c.t.Errorf("left after a boot are %+v", got)
	}
	if out, err := c.on("node2", "ls -d /proc/1/root/run/podproc 2>&1"); err == nil {
		c.t.Errorf("left after a boot is %s", out)
	}
}

// gone has podproc removed, and judges what readers have seen of it.
func (c *fixture) gone(remove func()) {
	c.t.Helper()
	before := c.accounts()
	remove()
	c.nothingLeft()
	after := c.accounts()
	for _, node := range nodeNames {
		a := after[node]
		out, err := c.on(node, "grep MemTotal /proc/meminfo")
		if err != nil {
			c.t.Fatal(err)
		}
		want := fmt.Sprintf("[%d %s]", readerMemory, strings.Fields(out)[1])
		if a.Failed > before[node].Failed || fmt.Sprint(a.Values) != want {
			c.t.Errorf("uninstalled: the reader on %s has seen %v, want %s, and errors %v", node, a.Values, want, a.Errors)
		}
		c.t.Logf("uninstalled, %s: %d reads", node, a.Reads)
		// The tree of links stays, until the node boots, for pods that start again.
		c.eventually("only links are left on "+node, func() (bool, string) {
			t := c.traces(node)
			return t == traces{kernel: 3}, fmt.Sprintf("%+v", t)
		})
	}
}
