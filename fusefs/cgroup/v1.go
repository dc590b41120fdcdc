// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"

	"github.com/podproc/podproc/fusefs/view"
)

// memoryV1 reads the limits of one level, and its usage where it has one or
// where usage is asked for.
//
//	Limit      memory.limit_in_bytes
//	Usage      memory.usage_in_bytes
//	SwapLimit  memory.memsw.limit_in_bytes - Limit
//	SwapUsage  memory.memsw.usage_in_bytes - Usage
//
// Without memsw (swapaccount=0, CONFIG_SWAP off) swap is not accounted. All
// cgroups of v1 have the controller; a missing limit means that podproc is
// shown something else.
func (d *dir) memoryV1(l *memoryLevel, usage bool, buf *buffer) error {
	limit, err := d.limit(v1MemoryLimit, buf)
	if err != nil {
		return err
	}
	memsw, err := d.limit(v1MemswLimit, buf)
	swap := err == nil
	if err != nil && !errors.Is(err, errAbsent) {
		return err
	}
	*l = memoryLevel{accounted: true, swap: swap}
	l.Limit, l.SwapLimit = limit, view.Unlimited
	if swap && memsw != view.Unlimited && limit != view.Unlimited {
		l.SwapLimit = memsw - min(limit, memsw)
	}
	if !usage && l.Limit == view.Unlimited && (!swap || memsw == view.Unlimited) {
		return nil
	}
	if l.Usage, err = d.value(v1MemoryUsage, buf); err != nil || !swap {
		return err
	}
	return d.swapUsageV1(l, buf)
}

// swapUsageV1 takes memory out of the sum that v1 counts. The two are read one
// after the other, and memory that grows in between must not look like swap:
// so it is read before and after.
func (d *dir) swapUsageV1(l *memoryLevel, buf *buffer) error {
	sum, err := d.value(v1MemswUsage, buf)
	if err != nil {
		return err
	}
	if sum <= l.Usage {
		return nil
	}
	after, err := d.value(v1MemoryUsage, buf)
	if err != nil {
		return err
	}
	l.SwapUsage = sum - min(sum, max(l.Usage, after))
	return nil
}

// memoryStatV1 maps the keys of memory.stat. v1 knows nothing of the kernel's
// own memory (slab, stacks, page tables); file and shmem huge pages, and keys
// that an old kernel lacks, stay 0.
func memoryStatV1(s *view.MemoryStat, key []byte) *uint64 {
	if !bytes.HasPrefix(key, []byte("total_")) { // not hierarchical
		return nil
	}
	switch string(key[len("total_"):]) {
	case "cache":
		return &s.File
	case "rss":
		return &s.Anon
	case "rss_huge":
		return &s.AnonTHP
	case "shmem": // Linux 4.10
		return &s.Shmem
	case "mapped_file":
		return &s.Mapped
	case "dirty": // Linux 4.2
		return &s.Dirty
	case "writeback":
		return &s.Writeback
	case "swapcached": // Linux 6.7
		return &s.SwapCached
	case "inactive_anon":
		return &s.InactiveAnon
	case "active_anon":
		return &s.ActiveAnon
	case "inactive_file":
		return &s.InactiveFile
	case "active_file":
		return &s.ActiveFile
	case "unevictable":
		return &s.Unevictable
	}
	return nil
}

// quotaV1 reads cpu.cfs_quota_us and cpu.cfs_period_us. A kernel without
// CONFIG_CFS_BANDWIDTH has neither. They are two files: when one differs from
// the last look they are read until twice the same, so that no quota is paired
// with another one's period.
func (d *dir) quotaV1(buf *buffer) (quota, error) {
	d.mu.Lock()
	last := d.quota
	d.mu.Unlock()
	for range 8 { // somebody who changes it all the time gets any
		q, err := d.quotaOnceV1(buf)
		if errors.Is(err, errAbsent) {
			return quota{us: view.Unlimited, period: 1}, nil
		}
		if err != nil || q == last {
			return q, err
		}
		last = q
		d.mu.Lock()
		d.quota = q
		d.mu.Unlock()
	}
	return last, nil
}

func (d *dir) quotaOnceV1(buf *buffer) (q quota, err error) {
	if q.us, err = d.limit(v1Quota, buf); err != nil || q.us == view.Unlimited {
		return quota{us: view.Unlimited, period: 1}, err
	}
	if q.period, err = d.value(v1Period, buf); err != nil {
		return quota{}, err
	}
	return q, d.parsed(v1Period, q.check())
}

// cpusetV1 appends the CPUs that the kernel really lets the cgroup use, none
// if it does not say here.
func (d *dir) cpusetV1(dst []int, buf *buffer) ([]int, error) {
	cpus, err := d.cpus(v1CpusetEffective, dst, buf)
	if errors.Is(err, errAbsent) { // before Linux 3.17
		return d.cpus(v1Cpuset, dst, buf)
	}
	return cpus, err
}

// cpuTimeV1 reads cpuacct.usage_all (Linux 4.9), else the two files that hold
// its columns (4.7), each with usage_percpu, else the totals of cpuacct.stat.
func (d *dir) cpuTimeV1(v *view.CPUTime, buf *buffer) error {
	b, err := d.text(v1UsageAll, buf)
	if errors.Is(err, errAbsent) {
		return d.cpuTimePerCPU(v, buf)
	}
	if err != nil {
		return err
	}
	if v.PerCPU, err = parseUsageAll(v.PerCPU, b); err != nil {
		return d.parsed(v1UsageAll, err)
	}
	return d.measured(v, buf)
}

// measured puts the time that the scheduler has measured (usage_percpu, as old
// as cpuacct) in place of the sum of user and system, which newer kernels only
// sample at ticks: off by 4 % for a loop on an idle machine, by 8 % on a busy
// one (Linux 6.18). The samples say how it is shared out.
func (d *dir) measured(v *view.CPUTime, buf *buffer) error {
	b, err := d.text(v1PerCPU, buf)
	if errors.Is(err, errAbsent) {
		sum(v)
		return nil
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.per) < len(v.PerCPU) {
		d.per = append(d.per, usedTime{})
	}
	err = shareOut(v.PerCPU, d.per, b)
	sum(v)
	return d.parsed(v1PerCPU, err)
}

// shareOut reads "1 2 3 \n", ns for each possible CPU. A CPU that dst has no
// sample of is system time.
func shareOut(dst []view.CPUUse, used []usedTime, b []byte) error {
	l, ok := line(b)
	if !ok {
		return fmt.Errorf("%.100q is not a list of times and a newline", b)
	}
	i := 0
	for f := range bytes.FieldsSeq(l) {
		total, ok := parseUint(f)
		if !ok {
			return fmt.Errorf("%.100q is not a time in ns", f)
		}
		if i >= len(dst) {
			return fmt.Errorf("more than %d CPUs in %.100q", len(dst), b)
		}
		c := &dst[i]
		user := uint64(0)
		if sampled := c.User + c.System; sampled > 0 {
			hi, lo := bits.Mul64(total, c.User)
			user, _ = bits.Div64(hi%sampled, lo, sampled)
		}
		c.User, c.System = used[i].advance(total, user)
		i++
	}
	if i != len(dst) {
		return fmt.Errorf("%d CPUs in %.100q, want %d", i, b, len(dst))
	}
	return nil
}

func (d *dir) cpuTimePerCPU(v *view.CPUTime, buf *buffer) error {
	b, err := d.text(v1PerCPUUser, buf)
	if errors.Is(err, errAbsent) {
		return d.cpuTimeTotal(v, buf)
	}
	if err != nil {
		return err
	}
	if v.PerCPU, err = parsePerCPU(v.PerCPU[:0], b, userColumn); err != nil {
		return d.parsed(v1PerCPUUser, err)
	}
	if b, err = d.text(v1PerCPUSystem, buf); err != nil {
		return err
	}
	if v.PerCPU, err = parsePerCPU(v.PerCPU, b, systemColumn); err != nil {
		return d.parsed(v1PerCPUSystem, err)
	}
	return d.measured(v, buf)
}

func (d *dir) cpuTimeTotal(v *view.CPUTime, buf *buffer) error {
	b, err := d.text(v1CPUAcctStat, buf)
	if err != nil {
		return err
	}
	v.PerCPU = v.PerCPU[:0]
	v.User, v.System, err = parseCPUAcctStat(b)
	return d.parsed(v1CPUAcctStat, err)
}

func sum(v *view.CPUTime) {
	v.User, v.System = 0, 0
	for _, c := range v.PerCPU {
		v.User += c.User
		v.System += c.System
	}
}

// parseUsageAll reads "cpu user system\n" and a line "0 123 456\n" in ns for
// each possible CPU. CPU numbers may have gaps.
func parseUsageAll(dst []view.CPUUse, b []byte) ([]view.CPUUse, error) {
	dst = dst[:0]
	head, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok || string(head) != "cpu user system" || len(rest) == 0 {
		return dst, fmt.Errorf("%.100q does not begin with a line \"cpu user system\" and a CPU", b)
	}
	for len(rest) > 0 {
		l, after, ok := bytes.Cut(rest, []byte("\n"))
		num, times, ok2 := bytes.Cut(l, []byte(" "))
		user, system, ok3 := bytes.Cut(times, []byte(" "))
		n, ok4 := parseUint(num)
		u, ok5 := parseUint(user)
		s, ok6 := parseUint(system)
		if !(ok && ok2 && ok3 && ok4 && ok5 && ok6) || n >= maxCPUs || n < uint64(len(dst)) {
			return dst, fmt.Errorf("%.100q is not a line CPU USER SYSTEM in ascending order", rest)
		}
		for uint64(len(dst)) < n {
			dst = append(dst, view.CPUUse{})
		}
		dst = append(dst, view.CPUUse{User: u, System: s})
		rest = after
	}
	return dst, nil
}

type column bool

const (
	userColumn   column = false
	systemColumn column = true
)

// parsePerCPU reads "1 2 3 \n", ns for each possible CPU, into one column of
// dst. The second column must have as many CPUs as the first.
func parsePerCPU(dst []view.CPUUse, b []byte, col column) ([]view.CPUUse, error) {
	l, ok := line(b)
	if !ok {
		return dst, fmt.Errorf("%.100q is not a list of times and a newline", b)
	}
	i := 0
	for f := range bytes.FieldsSeq(l) {
		n, ok := parseUint(f)
		if !ok || i >= maxCPUs {
			return dst, fmt.Errorf("%.100q is not a time in ns", f)
		}
		if col == userColumn {
			dst = append(dst, view.CPUUse{User: n})
		} else if i < len(dst) {
			dst[i].System = n
		}
		i++
	}
	if i == 0 || i != len(dst) {
		return dst, fmt.Errorf("%d CPUs in %.100q, want %d", i, b, max(1, len(dst)))
	}
	return dst, nil
}

const tick = 10_000_000 // ns in 1/USER_HZ, which is 1/100 s on every architecture

// parseCPUAcctStat reads "user N\nsystem N\n" in ticks.
func parseCPUAcctStat(b []byte) (user, system uint64, err error) {
	return parsePair(b, "user", "system", tick)
}
