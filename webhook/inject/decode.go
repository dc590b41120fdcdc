// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	kjson "sigs.k8s.io/json"
)

// The types of this file are the fields that a decision reads, and no others.
// Fields of a type that is not known here do not matter; a field that is read
// and has another type makes the object malformed.

type podObject struct {
	Metadata *metadata `json:"metadata"`
	Spec     *podSpec  `json:"spec"`

	template bool // it is a pod template: more containers may come with its pods
}

type metadata struct {
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
	OwnerReferences []ownerReference  `json:"ownerReferences"`
}

type ownerReference struct {
	Owner
	Controller *bool `json:"controller"`
}

type podSpec struct {
	Volumes             []*volume         `json:"volumes"`
	InitContainers      []*container      `json:"initContainers"`
	Containers          []*container      `json:"containers"`
	EphemeralContainers []*container      `json:"ephemeralContainers"`
	NodeName            string            `json:"nodeName"`
	PriorityClassName   string            `json:"priorityClassName"`
	NodeSelector        map[string]string `json:"nodeSelector"`
	RuntimeClassName    string            `json:"runtimeClassName"`
	HostPID             bool              `json:"hostPID"`
	HostUsers           *bool             `json:"hostUsers"`
	OS                  *struct {
		Name string `json:"name"`
	} `json:"os"`
	SecurityContext *struct {
		WindowsOptions map[string]json.RawMessage `json:"windowsOptions"`
	} `json:"securityContext"`
	Tolerations []struct {
		Key      string `json:"key"`
		Operator string `json:"operator"`
		Value    string `json:"value"`
	} `json:"tolerations"`
	Affinity *struct {
		NodeAffinity *struct {
			Required *struct {
				Terms []nodeTerm `json:"nodeSelectorTerms"`
			} `json:"requiredDuringSchedulingIgnoredDuringExecution"`
		} `json:"nodeAffinity"`
	} `json:"affinity"`
}

type nodeTerm struct {
	MatchExpressions []nodeRequirement `json:"matchExpressions"`
	MatchFields      []nodeRequirement `json:"matchFields"`
}

type nodeRequirement struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"`
	Values   []string `json:"values"`
}

type volume struct {
	Name     string `json:"name"`
	HostPath *struct {
		Path string `json:"path"`
		Type string `json:"type"`
	} `json:"hostPath"`
}

type container struct {
	Name          string         `json:"name"`
	RestartPolicy string         `json:"restartPolicy"`
	VolumeMounts  []*volumeMount `json:"volumeMounts"`
	VolumeDevices []struct {
		DevicePath string `json:"devicePath"`
	} `json:"volumeDevices"`
	SecurityContext *struct {
		ProcMount  string `json:"procMount"`
		Privileged bool   `json:"privileged"`
	} `json:"securityContext"`
}

type volumeMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
}

type workloadObject struct {
	Metadata *metadata `json:"metadata"`
	Spec     *struct {
		Template    json.RawMessage `json:"template"`
		JobTemplate *struct {
			Spec *struct {
				Template json.RawMessage `json:"template"`
			} `json:"spec"`
		} `json:"jobTemplate"`
	} `json:"spec"`
}

// decode reads an object as the API server does: names of fields are exact. A
// field given twice is refused, because a patch is applied by somebody else,
// who may take the other one.
func decode(raw []byte, into any) error {
	if t := bytes.TrimLeft(raw, " \t\r\n"); len(t) == 0 || t[0] != '{' {
		return errors.New("not a JSON object")
	}
	twice, err := kjson.UnmarshalStrict(raw, into, kjson.DisallowDuplicateFields)
	if err != nil {
		return err
	}
	return errors.Join(twice...)
}

// decodePod reads a pod or a pod template; absent parts are empty, never nil,
// in what it returns, except that hadMetadata tells whether there was one.
func decodePod(raw []byte) (p podObject, hadMetadata bool, err error) {
	if err := decode(raw, &p); err != nil {
		return podObject{}, false, err
	}
	hadMetadata = p.Metadata != nil
	if !hadMetadata {
		p.Metadata = &metadata{}
	}
	if p.Spec == nil {
		p.Spec = &podSpec{}
	}
	return p, hadMetadata, nil
}

// template returns the raw pod template of a workload of kind k.
func (w *workloadObject) template(k Kind) (json.RawMessage, error) {
	switch {
	case w.Spec == nil:
	case k != CronJob:
		return w.Spec.Template, nil
	case w.Spec.JobTemplate != nil && w.Spec.JobTemplate.Spec != nil:
		return w.Spec.JobTemplate.Spec.Template, nil
	}
	return nil, fmt.Errorf("no %s", k.templatePath())
}

// controller returns the owner that manages the object, nil if none does.
func (m *metadata) controller() *Owner {
	for i := range m.OwnerReferences {
		if ref := &m.OwnerReferences[i]; ref.Controller != nil && *ref.Controller {
			owner := ref.Owner
			return &owner
		}
	}
	return nil
}
