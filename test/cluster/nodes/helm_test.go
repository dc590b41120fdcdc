// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/podproc/podproc/test/deploy"
)

// helm: install, the same again, another image, back, changed values, back,
// uninstall. Readers notice nothing of all that but the end.
func helm(c *fixture) {
	program, err := deploy.Helm(c.Root)
	if err != nil {
		c.t.Fatal(err)
	}
	helm := func(args ...string) string {
		c.t.Helper()
		if args[0] == "install" || args[0] == "upgrade" {
			args = append(args, fmt.Sprint("--set=webhook.timeoutSeconds=", webhookTimeout))
		}
		cmd := c.In(c.ctx(), append([]string{program, "--namespace=podproc"}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+c.Dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			c.t.Fatalf("helm %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	chart := filepath.Join(c.Root, "deploy", "chart")
	wait := "--timeout=" + patience.String()
	c.kubectl("wait", "--for=delete", "namespace/podproc", wait)
	out := helm("install", "podproc", chart, "--create-namespace", "--wait", wait)
	if !strings.Contains(out, "podproc.io/inject=true") {
		c.t.Errorf("the notes do not say how to go on:\n%s", out)
	}
	c.kubectl("label", "namespace", "podproc", "pod-security.kubernetes.io/enforce=privileged")
	c.installed()

	generations := func() string {
		return c.kubectl("get", "daemonsets,deployments", "-n", "podproc", "-o", `jsonpath={range .items[*]}{.metadata.name}={.metadata.generation} {end}`)
	}
	before := generations()
	helm("upgrade", "podproc", chart, "--wait", wait)
	if after := generations(); after != before {
		c.t.Errorf("an upgrade to the same has changed workloads: %s, then %s", before, after)
	}

	c.startReaders()
	repository, tag, _ := strings.Cut(c.next, ":")
	c.calm(event{"helm upgrade to another image", func(c *fixture) {
		helm("upgrade", "podproc", chart, "--set=image.repository="+repository, "--set=image.tag="+tag, "--wait", wait)
	}})
	c.calm(event{"helm rollback", func(c *fixture) { helm("rollback", "podproc", "1", "--wait", wait) }})

	helm("upgrade", "podproc", chart, "--set=injection.files={meminfo}", "--set=injection.keys={example.com/old}", "--wait", wait)
	c.apply(pod("changed", "default", "node1", `annotations: {example.com/old: "true"}`, "containers: ["+container("app", small("memory: 56Mi"))+"]"), "apply", "-f", "-")
	c.running("default", "changed")
	if v := c.looked("changed", "app", "default"); v["mounts"] != "1" || v["meminfo"] != "57344" {
		c.t.Errorf("after an upgrade to injection.files={meminfo}: %v", v)
	}
	helm("rollback", "podproc", "1", "--wait", wait)
	c.installed()
	c.kubectl("delete", "pod", "changed", "--now")

	c.gone(func() { helm("uninstall", "podproc", "--wait", wait) })
	c.kubectl("delete", "namespace", "podproc", wait)
}
