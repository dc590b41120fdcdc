// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/podproc/podproc/test/vm/machine"
	"github.com/podproc/podproc/test/vm/wire"
)

// nodePackages are the Debian packages on node2.
var nodePackages = []string{"containerd", "runc", "containernetworking-plugins", "iproute2", "mount", "bash", "coreutils", "util-linux", "procps", "grep"}

// vm is the virtual machine of node2.
type vm struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // when done
	boots  atomic.Int32

	monitor string // QEMU's socket
}

// reset is the machine's reset button.
func (v *vm) reset() error {
	conn, err := net.Dial("unix", v.monitor)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	// It greets with a prompt, and has done what it was told with the next.
	for _, command := range []string{"system_reset\n", ""} {
		for said := ""; !strings.HasSuffix(said, "(qemu) "); {
			buf := make([]byte, 1<<10)
			n, err := conn.Read(buf)
			if err != nil {
				return err
			}
			said += string(buf[:n])
		}
		if _, err := io.WriteString(conn, command); err != nil {
			return err
		}
	}
	return nil
}

func (v *vm) ended() bool {
	select {
	case <-v.done:
		return true
	default:
		return false
	}
}

func (v *vm) stop() {
	v.cancel()
	<-v.done
}

// startNode2 boots the machine. It goes on to boot after a reboot of its own,
// and what was written to its disks until then is still there.
func (c *Cluster) startNode2(ctx context.Context) error {
	store, err := c.store(ctx)
	if err != nil {
		return fmt.Errorf("unpack images for node2: %w", err)
	}
	c.say("images for node2 unpacked")
	node := c.node("node2", node2IP)
	for key, value := range map[string]any{
		"Bin": wire.Payload + "/bin", "Dir": "/var/lib/node", "Server": "https://" + node1IP + ":443",
		"Pods": node2Pods, "Gateway": node2Gateway, "Images": []string{wire.Payload + "/podproc.tar"},
		"Network": []string{
			"ip addr add " + node2IP + "/16 dev eth0",
			"ip link set eth0 up",
			"ip route add default via " + node1IP,
		},
	} {
		node[key] = value
	}
	if err := writeJSON(c.file("node2.json"), node); err != nil {
		return err
	}
	m := machine.Machine{
		Image: machine.Image{Packages: nodePackages, Modules: []string{"bridge", "veth", "virtio_net"}},
		Cache: filepath.Join(c.Root, ".cache", "vm"),
		Payload: map[string]string{
			"bin": c.bin(), "agent": c.file("agent"), "node.json": c.file("node2.json"), "podproc.tar": c.own,
		},
		Disks:  []machine.Disk{{Path: store, Dir: "/var/lib/containerd"}},
		Memory: 3072,
		Prefix: []string{"nsenter", "-t", fmt.Sprint(c.pid), "-n"},
		QEMU: []string{"-action", "reboot=reset", "-monitor", "unix:" + c.file("monitor") + ",server=on,wait=off",
			"-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no",
			"-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:02,romfile="},
	}
	// tail -f: the agent ends with its standard input.
	job := wire.Job{Args: []string{"/bin/bash", "-c", "exec " + wire.Payload + "/agent run " + wire.Payload + "/node.json < <(exec tail -f /dev/null)"}}
	log, err := os.Create(c.file("node2.log"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.vm = &vm{cancel: cancel, done: make(chan struct{}), monitor: c.file("monitor")}
	go func() {
		defer close(c.vm.done)
		defer log.Close()
		c.vm.err = m.Run(ctx, []wire.Job{job}, func(ev wire.Event) {
			if ev.Up {
				c.vm.boots.Add(1)
			}
			_, _ = log.Write(ev.Output)
			if ev.Done {
				fmt.Fprintf(log, "agent: exit status %d\n", ev.Exit)
			}
		})
	}()
	return nil
}

// store makes the disk that node2 has the base images on, or finds it in the cache.
func (c *Cluster) store(ctx context.Context) (string, error) {
	h := sha256.New()
	for _, archive := range c.base {
		fmt.Fprintln(h, filepath.Base(archive))
	}
	sum := h.Sum(nil)
	disk := filepath.Join(c.cache(), fmt.Sprintf("store-%x.img", sum[:8]))
	if _, err := os.Stat(disk); err == nil {
		return disk, nil
	}
	dir, err := os.MkdirTemp(c.Dir, "store-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := writeJSON(c.file("store.json"), map[string]any{"Root": dir, "Images": c.base}); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, c.file("agent"), "store", c.file("store.json"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return disk, kept(disk, func(part string) error { return machine.MakeDisk(ctx, part, dir, 1<<30) })
}
