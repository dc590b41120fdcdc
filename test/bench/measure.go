// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// latencies compares all servers, with server and reader on one CPU, so that
// time is CPU time, and on any.
func (b *bench) latencies() error {
	for _, where := range []struct {
		title string
		cpu   int
	}{{"server and reader on one CPU", 0}, {"not pinned", anyCPU}} {
		results, err := b.latenciesOn(where.cpu)
		if err != nil {
			return err
		}
		b.table("open + read + read + close, "+where.title, results, func(l latencies) []int64 { return l.Open })
		b.table("re-read of a held descriptor, "+where.title, results, func(l latencies) []int64 { return l.Held })
		b.table("open + read + read + close, first after 100 ms, "+where.title, results, func(l latencies) []int64 { return l.Stale })
	}
	return nil
}

// latenciesOn returns, for each of files, the latencies of each of compared.
func (b *bench) latenciesOn(cpu int) ([][]latencies, error) {
	c, err := newContainer(0)
	if err != nil {
		return nil, err
	}
	defer c.del()
	p := plan{Join: c.dirs(), Rounds: b.size.rounds, Reads: b.size.reads, Stale: b.size.stale}
	for _, name := range compared {
		s, err := b.start(name, cpu)
		if err != nil {
			return nil, err
		}
		defer s.stop()
		for i := range files {
			p.Sources = append(p.Sources, s.source(i))
		}
	}
	if err := b.targets(len(p.Sources)); err != nil {
		return nil, err
	}
	cmd, _, stdout, err := b.startReader(p, cpu)
	if err != nil {
		return nil, err
	}
	var flat []latencies
	if err := json.NewDecoder(stdout).Decode(&flat); err != nil {
		return nil, fmt.Errorf("reader: %w (%v)", err, cmd.Wait())
	}
	if err := cmd.Wait(); err != nil {
		return nil, err
	}
	results := make([][]latencies, len(files))
	for i, l := range flat {
		results[i%len(files)] = append(results[i%len(files)], l)
	}
	return results, nil
}

// targets makes the empty files that readers bind over.
func (b *bench) targets(n int) error {
	for i := range n {
		if err := os.WriteFile(filepath.Join(b.dir, fmt.Sprint("file-", i)), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// many measures what a server uses while many containers read all files.
func (b *bench) many() error {
	fmt.Fprintf(b.out, "\n## %d containers, each reading %d files; CPU time of the server, %% of one core\n\n", b.size.containers, len(files))
	fmt.Fprintf(b.out, "| server | once a second | ten times a second | in a tight loop | resident, MB |\n|---|---|---|---|---|\n")
	for _, name := range []string{podproc, lxcfs} {
		row := "| " + name
		var rss int64
		for _, every := range []time.Duration{time.Second, time.Second / 10, 0} {
			if name == lxcfs && every < time.Second {
				row += " | not measured"
				continue
			}
			percent, resident, err := b.load(name, every)
			if err != nil {
				return err
			}
			row += fmt.Sprintf(" | %.1f", percent)
			rss = max(rss, resident)
		}
		fmt.Fprintf(b.out, "%s | %.0f |\n", row, float64(rss)/(1<<20))
	}
	return nil
}

// load returns the CPU use of a server and its resident set, while every
// container reads once every interval.
func (b *bench) load(name string, every time.Duration) (percent float64, rss int64, err error) {
	s, err := b.start(name, anyCPU)
	if err != nil {
		return 0, 0, err
	}
	defer s.stop()
	stop, err := b.fill(s, every)
	defer stop()
	if err != nil {
		return 0, 0, err
	}
	time.Sleep(every + time.Second/2) // everybody has read once
	before, err := s.cpuTime()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	select {
	case <-time.After(b.size.period):
	case <-b.ctx.Done():
		return 0, 0, b.ctx.Err()
	}
	after, err := s.cpuTime()
	if err != nil {
		return 0, 0, err
	}
	percent = 100 * (after - before).Seconds() / time.Since(start).Seconds()
	_, rss, err = s.resident()
	return percent, rss, err
}

// fill starts a reader in each container. stop ends them all.
func (b *bench) fill(s *server, every time.Duration) (stop func(), err error) {
	type one struct {
		cmd   *exec.Cmd
		stdin io.Closer
		c     *container
	}
	var all []one
	stop = func() {
		for _, o := range all {
			o.stdin.Close()
		}
		for _, o := range all {
			_ = o.cmd.Wait()
			_ = o.c.del()
		}
	}
	sources := b.sources(s)
	if err := b.targets(len(sources)); err != nil {
		return stop, err
	}
	for id := range b.size.containers {
		c, err := newContainer(id)
		if err != nil {
			return stop, err
		}
		cmd, stdin, _, err := b.startReader(plan{Join: c.dirs(), Sources: sources, Every: every, Repeat: true}, anyCPU)
		if err != nil {
			return stop, err
		}
		all = append(all, one{cmd, stdin, c})
	}
	return stop, nil
}

func (b *bench) sources(s *server) []string {
	var sources []string
	for i := range files {
		sources = append(sources, s.source(i))
	}
	return sources
}

// passing lets containers come, read everything once, and go.
func (b *bench) passing() error {
	s, err := b.start(podproc, anyCPU)
	if err != nil {
		return err
	}
	defer s.stop()
	sources := b.sources(s)
	if err := b.targets(len(sources)); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\n## podproc while %d containers come, read %d files, and go\n\n", b.size.passing, len(files))
	fmt.Fprintf(b.out, "| containers so far | resident, MB | of it anonymous, MB | descriptors |\n|---|---|---|---|\n")
	for id := range b.size.passing + 1 {
		if id%max(1, b.size.passing/10) == 0 {
			anon, all, err := s.resident()
			if err != nil {
				return err
			}
			fmt.Fprintf(b.out, "| %d | %.1f | %.1f | %d |\n", id, float64(all)/(1<<20), float64(anon)/(1<<20), s.descriptors())
		}
		if err := b.pass(id, sources); err != nil {
			return fmt.Errorf("container %d: %w\n%s", id, err, s.log())
		}
	}
	return nil
}

func (b *bench) pass(id int, sources []string) error {
	c, err := newContainer(id)
	if err != nil {
		return err
	}
	cmd, _, _, err := b.startReader(plan{Join: c.dirs(), Sources: sources}, anyCPU)
	if err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return err
	}
	return c.del()
}
