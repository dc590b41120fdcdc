// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/podproc/podproc/fusefs/view"
)

// memField is a line of /proc/meminfo that a container knows better.
type memField uint8

const (
	memTotal memField = iota
	memFree
	memAvailable
	memBuffers
	memCached
	memSwapCached
	memActive
	memInactive
	memActiveAnon
	memInactiveAnon
	memActiveFile
	memInactiveFile
	memUnevictable
	memMlocked
	memHighTotal
	memHighFree
	memLowTotal
	memLowFree
	memSwapTotal
	memSwapFree
	memZswap
	memZswapped
	memDirty
	memWriteback
	memAnonPages
	memMapped
	memShmem
	memKReclaimable
	memSlab
	memSReclaimable
	memSUnreclaim
	memKernelStack
	memPageTables
	memSecPageTables
	memCommitLimit
	memCommittedAS
	memVmallocUsed
	memPercpu
	memAnonHugePages
	memShmemHugePages
	memShmemPmdMapped
	memFileHugePages
	memFilePmdMapped
	numMemFields
)

// memFields finds the field of a line by its key.
var memFields = map[string]memField{
	"MemTotal": memTotal, "MemFree": memFree, "MemAvailable": memAvailable,
	"Buffers": memBuffers, "Cached": memCached, "SwapCached": memSwapCached,
	"Active": memActive, "Inactive": memInactive,
	"Active(anon)": memActiveAnon, "Inactive(anon)": memInactiveAnon,
	"Active(file)": memActiveFile, "Inactive(file)": memInactiveFile,
	"Unevictable": memUnevictable, "Mlocked": memMlocked,
	"HighTotal": memHighTotal, "HighFree": memHighFree,
	"LowTotal": memLowTotal, "LowFree": memLowFree,
	"SwapTotal": memSwapTotal, "SwapFree": memSwapFree,
	"Zswap": memZswap, "Zswapped": memZswapped,
	"Dirty": memDirty, "Writeback": memWriteback,
	"AnonPages": memAnonPages, "Mapped": memMapped, "Shmem": memShmem,
	"KReclaimable": memKReclaimable, "Slab": memSlab,
	"SReclaimable": memSReclaimable, "SUnreclaim": memSUnreclaim,
	"KernelStack": memKernelStack, "PageTables": memPageTables,
	"SecPageTables": memSecPageTables,
	"CommitLimit":   memCommitLimit, "Committed_AS": memCommittedAS,
	"VmallocUsed": memVmallocUsed, "Percpu": memPercpu,
	"AnonHugePages": memAnonHugePages, "ShmemHugePages": memShmemHugePages,
	"ShmemPmdMapped": memShmemPmdMapped, "FileHugePages": memFileHugePages,
	"FilePmdMapped": memFilePmdMapped,
}

// memSpot is where the number of a field stands in the text.
type memSpot struct {
	field    memField
	from, to int
}

// HostMeminfo is the host's /proc/meminfo.
type HostMeminfo struct {
	text  []byte // with room: every number as wide as MemTotal
	spots []memSpot
	value [numMemFields]uint64 // kB
}

// memWidth is the width that the kernel gives to every number of
// /proc/meminfo, and exceeds on hosts of 100 GB and more.
const memWidth = 8

// ParseMeminfo parses the host's /proc/meminfo and gives its numbers room: each
// is as wide as that of MemTotal (Committed_AS, which may be more, as four
// times MemTotal), so that the size does not change with the numbers.
func ParseMeminfo(text []byte) (*HostMeminfo, error) {
	if !bytes.HasSuffix(text, []byte("\n")) {
		return nil, errors.New("text does not end in a newline")
	}
	h := new(HostMeminfo)
	if err := h.values(text); err != nil {
		return nil, err
	}
	width := max(memWidth, digits(h.value[memTotal]), digits(h.value[memSwapTotal]))
	committed := max(width, digits(h.value[memTotal]*4))
	h.text = make([]byte, 0, len(text)+256)
	for rest := text; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		field, from, to, ok := memLine(line)
		if !ok {
			h.text = append(h.text, line...)
			continue
		}
		w := width
		if field == memCommittedAS {
			w = committed
		}
		w = max(w, to-from)
		key := bytes.IndexByte(line, ':') + 1
		lead := to - key - max(memWidth, to-from) // blanks before the kernel's own width
		if lead < 0 && field == numMemFields {
			h.text = append(h.text, line...)
			continue
		}
		if lead < 0 {
			lead = 1
		}
		h.text = append(h.text, line[:key]...)
		h.text = appendBlanks(h.text, lead+w-(to-from))
		h.text = append(h.text, line[from:to]...)
		if field != numMemFields {
			h.spots = append(h.spots, memSpot{field, len(h.text) - w, len(h.text)})
		}
		h.text = append(h.text, line[to:]...)
	}
	return h, nil
}

// values takes the numbers of known fields out of text.
func (h *HostMeminfo) values(text []byte) error {
	var seen [numMemFields]bool
	for rest := text; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		field, from, to, ok := memLine(line)
		if !ok || field == numMemFields {
			continue
		}
		if seen[field] {
			return fmt.Errorf("two lines of %.20q", line)
		}
		n, ok := parseUint(line[from:to])
		if !ok || n > 1<<50 {
			return fmt.Errorf("%.100q is out of range", line)
		}
		h.value[field], seen[field] = n, true
	}
	if h.value[memTotal] == 0 || !seen[memFree] {
		return errors.New("no MemTotal or no MemFree")
	}
	if !seen[memAvailable] { // before Linux 3.14
		h.value[memAvailable] = h.value[memFree] + h.value[memActiveFile] + h.value[memInactiveFile]
	}
	h.value[memAvailable] = min(h.value[memAvailable], h.value[memTotal])
	h.value[memSwapFree] = min(h.value[memSwapFree], h.value[memSwapTotal])
	return nil
}

// memLine finds key and number of a line of the form "Key:   123 kB"; lines of
// other forms (HugePages_Total) are the host's for everybody. The field of an
// unknown key is numMemFields.
func memLine(line []byte) (field memField, from, to int, ok bool) {
	key, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return 0, 0, 0, false
	}
	n, ok := bytes.CutSuffix(value, []byte(" kB\n"))
	if !ok {
		return 0, 0, 0, false
	}
	trimmed := bytes.TrimLeft(n, " ")
	if a, b := number(trimmed); a != 0 || b != len(trimmed) || b == 0 {
		return 0, 0, 0, false
	}
	to = len(key) + 1 + len(n)
	field, ok = memFields[string(key)]
	if !ok {
		field = numMemFields
	}
	return field, to - len(trimmed), to, true
}

// Meminfo appends /proc/meminfo of the container v to dst; the host's where v is nil.
// Its size is the host's and stands still.
//
// A level is the boundary or one of its ancestors; only levels with a limit
// count, and the host itself is the last one, with free and headroom as it
// says. T is the level that sets MemTotal. Keys are those of memory.stat, on
// v1 with "total_" before them.
//
//	field            v2                        v1                    formula
//	MemTotal         memory.max                memory.limit_in_bytes min over levels, at least 4 kB
//	MemFree          memory.current            memory.usage_in_bytes min(limit - usage from the boundary to T, MemAvailable)
//	MemAvailable     active_file inactive_file the same              min over levels of free + what is given back on demand
//	                 slab_reclaimable          -
//	Buffers          -                         -                     0: memory.stat has it within file
//	Cached           file                      cache                 less swapcached
//	SwapCached       swapcached (5.12)         swapcached (6.7)
//	Active...        active_anon, ...          the same
//	Unevictable      unevictable               the same
//	Mlocked          -                         -                     the host's, at most Unevictable
//	High*, Low*      -                         -                     32-bit: all memory is low
//	SwapTotal        memory.swap.max           memsw.limit - limit   see swapSpace
//	SwapFree         memory.swap.current       memsw.usage - usage   see swapSpace
//	Zswap, Zswapped  zswap, zswapped (5.19)    -
//	Dirty            file_dirty                dirty (4.2)
//	Writeback        file_writeback            writeback
//	AnonPages        anon                      rss
//	Mapped           file_mapped               mapped_file
//	Shmem            shmem                     shmem (4.10)
//	KReclaimable     slab_reclaimable          -
//	Slab             slab_*                    -                     sum of both
//	SReclaimable     slab_reclaimable          -
//	SUnreclaim       slab_unreclaimable        -
//	KernelStack      kernel_stack              -
//	PageTables       pagetables (5.13)         -
//	SecPageTables    sec_pagetables (6.1)      -
//	CommitLimit      -                         -                     the host's rule: its share of RAM, and swap
//	Committed_AS     -                         -                     AnonPages + Shmem + swap used: what is committed at least
//	VmallocUsed      vmalloc (6.0)             -
//	Percpu           percpu (5.9)              -
//	AnonHugePages    anon_thp                  rss_huge
//	ShmemHugePages   shmem_thp (5.11)          -
//	FileHugePages    file_thp (5.11)           -
//	*PmdMapped       -                         -                     0
//
// What a kernel does not count is 0. No field is above MemTotal (SwapTotal for
// swap). A container without a limit below the node-wide levels is shown the
// host's text; if only its swap is limited, with its own SwapTotal and
// SwapFree.
func Meminfo(dst []byte, h *HostMeminfo, v *view.Memory) []byte {
	start := len(dst)
	dst = append(dst, h.text...)
	if v == nil {
		return dst
	}
	value := h.value
	space := swapSpace(h, v)
	if memoryLimited(v) {
		fillMemory(&value, h, v, space)
	} else if !space.limited {
		return dst
	}
	value[memSwapTotal], value[memSwapFree] = space.total, space.free
	text := dst[start:]
	for _, s := range h.spots {
		setRight(text[s.from:s.to], value[s.field])
	}
	return dst
}

// memoryLimited tells whether a level that is the container's own, or its
// pod's, has a limit.
func memoryLimited(v *view.Memory) bool {
	for i := range v.Levels {
		if l := &v.Levels[i]; !l.NodeWide && l.Limit != view.Unlimited {
			return true
		}
	}
	return false
}

// fillMemory sets all fields but swap to the container's.
func fillMemory(value *[numMemFields]uint64, h *HostMeminfo, v *view.Memory, swap space) {
	total, free, available := memorySpace(h, v)
	s := &v.Stat
	kb := func(bytes uint64) uint64 { return min(bytes>>10, total) }

	value[memTotal], value[memFree], value[memAvailable] = total, free, available
	value[memHighTotal], value[memHighFree] = 0, 0
	value[memLowTotal], value[memLowFree] = total, free

	value[memBuffers] = 0
	value[memCached] = kb(sub(s.File, s.SwapCached))
	value[memSwapCached] = min(kb(s.SwapCached), swap.total)
	value[memActive] = kb(add(s.ActiveAnon, s.ActiveFile))
	value[memInactive] = kb(add(s.InactiveAnon, s.InactiveFile))
	value[memActiveAnon], value[memInactiveAnon] = kb(s.ActiveAnon), kb(s.InactiveAnon)
	value[memActiveFile], value[memInactiveFile] = kb(s.ActiveFile), kb(s.InactiveFile)
	value[memUnevictable] = kb(s.Unevictable)
	value[memMlocked] = min(value[memMlocked], value[memUnevictable])
	value[memZswap], value[memZswapped] = kb(s.Zswap), min(s.Zswapped>>10, swap.total)
	value[memDirty], value[memWriteback] = kb(s.Dirty), kb(s.Writeback)
	value[memAnonPages], value[memMapped], value[memShmem] = kb(s.Anon), kb(s.Mapped), kb(s.Shmem)

	value[memKReclaimable], value[memSReclaimable] = kb(s.SlabReclaimable), kb(s.SlabReclaimable)
	value[memSUnreclaim] = kb(s.SlabUnreclaimable)
	value[memSlab] = min(value[memSReclaimable]+value[memSUnreclaim], total)
	value[memKernelStack], value[memPageTables] = kb(s.KernelStack), kb(s.PageTables)
	value[memSecPageTables] = kb(s.SecPageTables)
	value[memVmallocUsed], value[memPercpu] = kb(s.Vmalloc), kb(s.Percpu)

	value[memAnonHugePages] = kb(s.AnonTHP)
	value[memShmemHugePages], value[memFileHugePages] = kb(s.ShmemTHP), kb(s.FileTHP)
	value[memShmemPmdMapped], value[memFilePmdMapped] = 0, 0

	ram := sub(h.value[memCommitLimit], h.value[memSwapTotal])
	value[memCommitLimit] = scale(ram, total, h.value[memTotal]) + swap.total
	value[memCommittedAS] = min(value[memAnonPages]+value[memShmem]+swap.total-swap.free, total+swap.total)
}

// memorySpace returns Total, Free and Available in kB. Levels above the one
// that sets Total do not bound Free: page cache that they hold is given back
// on demand.
func memorySpace(h *HostMeminfo, v *view.Memory) (total, free, available uint64) {
	limit := h.value[memTotal] << 10
	setter := len(v.Levels) // the host
	for i := range v.Levels {
		if l := v.Levels[i].Limit; l != view.Unlimited && uint64(l) < limit {
			limit, setter = uint64(l), i
		}
	}
	limit = max(limit, 4096)
	available = min(h.value[memAvailable]<<10, limit)
	free = limit
	if setter == len(v.Levels) {
		free = h.value[memFree] << 10
	}
	for i := range v.Levels {
		l := &v.Levels[i]
		if l.Limit == view.Unlimited {
			continue
		}
		left := uint64(sub(l.Limit, view.Limit(l.Usage)))
		if i <= setter {
			free = min(free, left)
		}
		available = min(available, add(left, add(add(l.ActiveFile, l.InactiveFile), l.SlabReclaimable)))
	}
	free = min(free, available)
	return limit >> 10, free >> 10, available >> 10
}
