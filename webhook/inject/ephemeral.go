// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

// decideEphemeral decides on ephemeral containers that are being added to a
// running pod. They get the files whose volumes the pod has; nothing else of
// the pod can change. Its annotations choose neither files nor, by naming
// podproc.io/containers, containers; exclude-containers and opting out count.
func (in *Injector) decideEphemeral(r Request) Result {
	p, _, err := decodePod(r.Object)
	if err != nil {
		return failed("pod", err)
	}
	old := podObject{Spec: &podSpec{}}
	if len(r.OldObject) > 0 {
		if old, _, err = decodePod(r.OldObject); err != nil {
			return failed("old pod", err)
		}
	}
	res := Result{Owner: p.Metadata.controller()}
	a := in.asked(p.Metadata, nil)
	if a.no != "" {
		res.Outcome, res.Reason, res.Message = Ignored, OptedOut, OptedOut.message(a.no)
		return res
	}
	volumes, want := in.volumesOf(p.Spec), mountable()
	for i := range files {
		if !files[i].initial && volumes[i] == volumeAbsent {
			want &^= 1 << i // nobody has asked for it
		}
	}
	pl := &planner{
		in: in, want: want, onPod: a.onPod, fixed: true,
		choice:  choice{exclude: nameSet(p.Metadata.Annotations[ExcludeContainersKey])},
		volumes: volumes,
		running: make(map[string]bool),
	}
	for _, c := range old.Spec.EphemeralContainers {
		if c != nil {
			pl.running[c.Name] = true
		}
	}
	pl.containers("/spec/ephemeralContainers", EphemeralContainer, p.Spec.EphemeralContainers)
	res.Containers = pl.done
	switch {
	case pl.added > 0:
		res.Outcome, res.Patch = Injected, pl.ops
	case pl.mounted != 0:
		res.Outcome = Unchanged
	default:
		res.Outcome, res.Reason = Ignored, pl.whyNone()
		res.Message = res.Reason.Text()
	}
	return res
}
