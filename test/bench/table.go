// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
)

// table prints one kind of latency of every file and server, and the ratios
// that podproc is judged by.
func (b *bench) table(title string, results [][]latencies, kind func(latencies) []int64) {
	fmt.Fprintf(b.out, "\n## %s\n\n| file | %s | podproc : procfs | podproc : constant | LXCFS : podproc |\n|---%s|---|---|---|\n",
		title, strings.Join(compared, " | "), strings.Repeat("|---", len(compared)))
	for i, file := range files {
		row, median := "| "+file.name, map[string]float64{}
		for j, name := range compared {
			all := slices.Sorted(slices.Values(kind(results[i][j])))
			median[name] = micros(all, 50)
			row += fmt.Sprintf(" | %.1f / %.1f", median[name], micros(all, 99))
		}
		fmt.Fprintf(b.out, "%s | %.2f | %.2f | %.1f |\n", row,
			median[podproc]/median[procfs], median[podproc]/median[goFuse], median[lxcfs]/median[podproc])
	}
}

// micros is a percentile of sorted nanoseconds, in microseconds.
func micros(sorted []int64, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[(len(sorted)-1)*percent/100]) / 1000
}
