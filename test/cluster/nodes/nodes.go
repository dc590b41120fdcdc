// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package nodes brings up a real Kubernetes with nodes: node1 in namespaces of
// its own on this machine and its cgroups, node2 in a virtual machine with cgroup
// v2. Control plane, kubelet and containerd are the real ones, images come from
// this tree and from this machine's Debian packages, and nothing is pulled.
//
// Nothing outlives the process that called Up, and of its traces only empty
// directories (mount points below /var/lib) stay on this machine. One cluster
// at a time: the kubelet's cgroups have fixed names.
package nodes

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/podproc/podproc/test/image"
)

// Options of a cluster.
type Options struct {
	Root string    // of the repository
	Dir  string    // for all that the cluster writes; emptied first
	VM   bool      // with node2
	Log  io.Writer // how it comes up
}

// A Cluster is running until Down.
type Cluster struct {
	Dir  string
	Root string

	log    io.Writer
	start  time.Time
	token  string
	own    string // podproc's image
	next   string // another name that it has
	base   []string
	tags   map[string]string // image -> another name for it
	init   *exec.Cmd
	input  io.Closer // the node ends when it is closed
	pid    int       // of node1's first process
	vm     *vm
	unlock func()
}

// addresses: node1 is the gateway of its pods; node2 hangs on the same bridge.
const (
	node1IP, node1Pods = "10.88.0.1", "10.88.0.0/16"
	node2IP, node2Pods = "10.88.0.2", "10.89.0.0/16"
	node2Gateway       = "10.89.0.1"
	apiIP              = "10.96.0.1" // the Service kubernetes
)

// Up brings the cluster up: images built, nodes Ready.
func Up(ctx context.Context, o Options) (_ *Cluster, err error) {
	c := &Cluster{Dir: o.Dir, Root: o.Root, log: o.Log, start: time.Now()}
	if c.unlock, err = lock(c.cache()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.logs(), c.Down())
		}
	}()
	if err := removeCgroups(); err != nil { // of a cluster that was killed
		return nil, err
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := c.build(ctx); err != nil {
		return nil, err
	}
	if err := c.startNode1(); err != nil {
		return nil, err
	}
	if o.VM {
		if err := c.startNode2(ctx); err != nil {
			return nil, err
		}
	}
	return c, c.ready(ctx, o.VM)
}

func (c *Cluster) say(format string, args ...any) {
	if c.log != nil {
		fmt.Fprintf(c.log, "%6.1fs "+format+"\n", append([]any{time.Since(c.start).Seconds()}, args...)...)
	}
}

// build makes Kubernetes, images and agent.
func (c *Cluster) build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "run", "./test/cluster/build")
	cmd.Dir = c.Root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build Kubernetes: %w: %s", err, out)
	}
	c.say("Kubernetes built")
	if err := compile(ctx, c.Root, "./test/cluster/nodes/agent", c.file("agent")); err != nil {
		return err
	}
	var err error
	if c.own, c.base, err = images(ctx, c.Root, c.cache()); err != nil {
		return err
	}
	version, err := image.Version(c.Root)
	if err != nil {
		return err
	}
	c.next = image.Repository + ":next"
	c.tags = map[string]string{image.Repository + ":" + version: c.next}
	token := make([]byte, 16)
	_, err = rand.Read(token)
	c.token = hex.EncodeToString(token)
	c.say("images built")
	return err
}

func (c *Cluster) file(name string) string { return filepath.Join(c.Dir, name) }

func (c *Cluster) cache() string { return filepath.Join(c.Root, ".cache", "cluster") }

func (c *Cluster) bin() string { return filepath.Join(c.Root, "bin", "k8s") }

// kubelet: a Guaranteed pod can have a CPU of its own. Half a CPU is reserved,
// which keeps a whole one from such pods, and leaves half for the requests of others.
const kubelet = `cpuManagerPolicy: static
systemReserved: {cpu: 500m}
`

// node is what both nodes have in common; see agent.Node.
func (c *Cluster) node(name, ip string) map[string]any {
	return map[string]any{"Name": name, "IP": ip, "Token": c.token, "Kubelet": kubelet, "Tags": c.tags}
}

func (c *Cluster) startNode1() error {
	node := c.node("node1", node1IP)
	for key, value := range map[string]any{
		"Bin": c.bin(), "Dir": c.file("node1"), "Images": append(c.base, c.own), "ControlPlane": true, "Limited": true,
		"Server": "https://127.0.0.1:443", "Pods": node1Pods, "Gateway": node1IP,
		"Own": []string{"/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/log"},
		"Network": []string{
			"ip link set lo up",
			"ip addr add " + apiIP + "/32 dev lo",
			"ip link add cni0 type bridge",
			"ip addr add " + node1IP + "/16 dev cni0",
			"ip link set cni0 up",
			"ip tuntap add tap0 mode tap",
			"ip link set tap0 master cni0 up",
			"ip route add " + node2Pods + " via " + node2IP,
		},
	} {
		node[key] = value
	}
	if err := writeJSON(c.file("node1.json"), node); err != nil {
		return err
	}
	log, err := os.Create(c.file("node1.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	c.init = exec.Command(c.file("agent"), "init", c.file("node1.json"))
	c.init.Stdout, c.init.Stderr = log, log
	c.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid:     true,
	}
	if c.input, err = c.init.StdinPipe(); err != nil {
		return err
	}
	if err := c.init.Start(); err != nil {
		return fmt.Errorf("start node1: %w", err)
	}
	c.pid = c.init.Process.Pid
	return os.WriteFile(c.file("in"), fmt.Appendf(nil, inScript, c.pid, c.file("node1/kubeconfig"), c.bin()), 0o755)
}

// inScript runs a command inside node1.
const inScript = `#!/bin/sh
exec nsenter -t %d -m -n -p -u -i --wdns="$PWD" -- env KUBECONFIG=%s PATH=%s:"$PATH" "$@"
`

// In is a command that runs inside node1, with kubectl in its PATH.
func (c *Cluster) In(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.file("in"), argv...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Kubectl runs kubectl as an administrator and returns what it printed.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := c.In(ctx, append([]string{"kubectl"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.Dir) // its cache of what the API server offers
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s%s", strings.Join(args, " "), err, errs.String(), out.String())
	}
	return out.String(), nil
}

// ready waits for the nodes and for what every namespace needs before a pod.
func (c *Cluster) ready(ctx context.Context, vm bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Minute, errors.New("not there after 10 minutes"))
	defer cancel()
	nodes := []string{"node1"}
	if vm {
		nodes = append(nodes, "node2")
	}
	for _, node := range nodes {
		if err := c.until(ctx, "get", "node", node); err != nil {
			return err
		}
		if _, err := c.Kubectl(ctx, "", "wait", "--for=condition=Ready", "--timeout=10m", "node/"+node); err != nil {
			return err
		}
		c.say("%s is Ready", node)
	}
	return c.until(ctx, "get", "serviceaccount", "default")
}

// until repeats a kubectl until it succeeds.
func (c *Cluster) until(ctx context.Context, args ...string) error {
	for {
		_, err := c.Kubectl(ctx, "", args...)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
		if c.vm != nil && c.vm.ended() {
			return fmt.Errorf("node2 went off: %w", c.vm.err)
		}
		if syscall.Kill(c.pid, 0) != nil {
			return fmt.Errorf("node1 has ended: %w", err)
		}
	}
}

// logs are the last lines of every log, as an error.
func (c *Cluster) logs() error {
	var text strings.Builder
	for _, pattern := range []string{"*.log", "node1/log/*.log"} {
		files, err := filepath.Glob(c.file(pattern))
		if err != nil {
			return err
		}
		for _, name := range files {
			log, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, "== %s\n%s\n", name, log[max(0, len(log)-1500):])
		}
	}
	return errors.New(text.String())
}

// Down ends the cluster and removes the cgroups of its pods. Logs stay.
func (c *Cluster) Down() error {
	if c.vm != nil {
		c.vm.stop()
	}
	if c.init != nil && c.init.Process != nil {
		_ = c.init.Process.Kill() // process 1: the kernel ends all the others
		_ = c.init.Wait()
	}
	err := removeCgroups()
	if c.unlock != nil {
		c.unlock()
	}
	return err
}

// removeCgroups removes the kubelet's cgroups, innermost first. The kernel may
// need a moment to let go of the last processes.
func removeCgroups() error {
	roots, err := filepath.Glob("/sys/fs/cgroup/*/kubepods")
	if err != nil {
		return err
	}
	if _, err := os.Stat("/sys/fs/cgroup/kubepods"); err == nil {
		roots = append(roots, "/sys/fs/cgroup/kubepods")
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		var last error
		for _, root := range roots {
			if err := removeTree(root); err != nil {
				last = err
			}
		}
		if last == nil || time.Now().After(end) {
			return last
		}
	}
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeTree(filepath.Join(dir, e.Name())))
		}
	}
	if e := os.Remove(dir); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// lock lets one cluster at a time be.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another cluster is up (make cluster-down ends it): %w", err)
	}
	return func() { f.Close() }, nil
}

func writeJSON(file string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}
