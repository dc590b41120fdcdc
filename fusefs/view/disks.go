// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package view

// Disk is what a container has read from and written to one disk, page cache
// aside.
type Disk struct {
	Major, Minor                        uint64
	Reads, Writes, Discards             uint64
	ReadBytes, WriteBytes, DiscardBytes uint64
}

// Used tells whether the container has used the disk at all.
func (d *Disk) Used() bool {
	return d.Reads|d.Writes|d.Discards|d.ReadBytes|d.WriteBytes|d.DiscardBytes != 0
}

// Disks are those that a container has used, and maybe others.
type Disks struct{ Disks []Disk }

// Find returns the disk with that device number if the container has used it,
// else nil.
func (v *Disks) Find(major, minor uint64) *Disk {
	for i := range v.Disks {
		if d := &v.Disks[i]; d.Major == major && d.Minor == minor && d.Used() {
			return d
		}
	}
	return nil
}

// At returns the disk with that device number, which it adds if need be.
func (v *Disks) At(major, minor uint64) *Disk {
	for i := range v.Disks {
		if d := &v.Disks[i]; d.Major == major && d.Minor == minor {
			return d
		}
	}
	v.Disks = append(v.Disks, Disk{Major: major, Minor: minor})
	return &v.Disks[len(v.Disks)-1]
}
