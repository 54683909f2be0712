package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (w *worker) secret(name string) (map[string][]byte, error) {
	s, err := w.r.cs.CoreV1().Secrets(w.pod.Namespace).Get(w.ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return s.Data, nil
}

func (w *worker) configMap(name string) (map[string][]byte, error) {
	c, err := w.r.cs.CoreV1().ConfigMaps(w.pod.Namespace).Get(w.ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for k, v := range c.Data {
		out[k] = []byte(v)
	}
	for k, v := range c.BinaryData {
		out[k] = v
	}
	return out, nil
}

func absent(err error, optional *bool) bool {
	return apierrors.IsNotFound(err) && optional != nil && *optional
}

func (w *worker) environ(c *container) ([]string, error) {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=" + w.pod.Name, "HOME=/"}
	vars := map[string]string{}
	set := func(k, v string) { env, vars[k] = append(env, k+"="+v), v }
	set("KUBERNETES_SERVICE_HOST", w.r.c.apiHost)
	set("KUBERNETES_SERVICE_PORT", w.r.c.apiPort)
	set("KUBERNETES_SERVICE_PORT_HTTPS", w.r.c.apiPort)
	for _, f := range c.spec.EnvFrom {
		var m map[string][]byte
		var err error
		switch {
		case f.SecretRef != nil:
			if m, err = w.secret(f.SecretRef.Name); absent(err, f.SecretRef.Optional) {
				err = nil
			}
		case f.ConfigMapRef != nil:
			if m, err = w.configMap(f.ConfigMapRef.Name); absent(err, f.ConfigMapRef.Optional) {
				err = nil
			}
		}
		if err != nil {
			return nil, err
		}
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			set(f.Prefix+k, string(m[k]))
		}
	}
	for _, e := range c.spec.Env {
		v := expand(e.Value, vars)
		if s := e.ValueFrom; s != nil {
			var m map[string][]byte
			var err error
			var key string
			var opt *bool
			switch {
			case s.FieldRef != nil:
				if v, err = w.field(s.FieldRef.FieldPath); err != nil {
					return nil, err
				}
			case s.ResourceFieldRef != nil:
				v = w.resource(c, s.ResourceFieldRef)
			case s.SecretKeyRef != nil:
				key, opt = s.SecretKeyRef.Key, s.SecretKeyRef.Optional
				m, err = w.secret(s.SecretKeyRef.Name)
			case s.ConfigMapKeyRef != nil:
				key, opt = s.ConfigMapKeyRef.Key, s.ConfigMapKeyRef.Optional
				m, err = w.configMap(s.ConfigMapKeyRef.Name)
			}
			if key != "" {
				if absent(err, opt) {
					continue
				}
				if err != nil {
					return nil, err
				}
				b, ok := m[key]
				if !ok {
					if opt != nil && *opt {
						continue
					}
					return nil, fmt.Errorf("env %s: no key %q", e.Name, key)
				}
				v = string(b)
			}
		}
		set(e.Name, v)
	}
	return env, nil
}

func (w *worker) resource(c *container, r *corev1.ResourceFieldSelector) string {
	list := c.spec.Resources.Limits
	if strings.HasPrefix(r.Resource, "requests.") {
		list = c.spec.Resources.Requests
	}
	_, name, _ := strings.Cut(r.Resource, ".")
	q, ok := list[corev1.ResourceName(name)]
	if !ok {
		if name == "cpu" {
			return "1"
		}
		return strconv.Itoa(1 << 30)
	}
	return strconv.FormatInt(q.Value(), 10)
}

func (w *worker) field(path string) (string, error) {
	p := w.pod
	if k, ok := strings.CutPrefix(path, "metadata.labels['"); ok {
		return p.Labels[strings.TrimSuffix(k, "']")], nil
	}
	if k, ok := strings.CutPrefix(path, "metadata.annotations['"); ok {
		return p.Annotations[strings.TrimSuffix(k, "']")], nil
	}
	quoted := func(m map[string]string) string {
		var out []string
		for k, v := range m {
			out = append(out, fmt.Sprintf("%s=%q", k, v))
		}
		sort.Strings(out)
		return strings.Join(out, "\n")
	}
	hostIPs := w.r.c.hostIP4 + "," + w.r.c.hostIP6
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "metadata.uid":
		return string(p.UID), nil
	case "metadata.labels":
		return quoted(p.Labels), nil
	case "metadata.annotations":
		return quoted(p.Annotations), nil
	case "spec.nodeName":
		return p.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return p.Spec.ServiceAccountName, nil
	case "status.podIP":
		return w.ip4(), nil
	case "status.podIPs":
		return strings.Join(w.podIPs(), ","), nil
	case "status.hostIP":
		return w.r.c.hostIP4, nil
	case "status.hostIPs":
		return hostIPs, nil
	}
	return "", fmt.Errorf("field %q is not supported", path)
}

// expand replaces $(NAME) as Kubernetes does in command, args and env values.
func expand(s string, vars map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			if j := strings.IndexByte(s[i:], ')'); j > 0 {
				if v, ok := vars[s[i+2:i+j]]; ok {
					b.WriteString(v)
					i += j
					continue
				}
			}
			b.WriteByte('$')
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}

func (w *worker) mounts(c *container) ([]bind, error) {
	var out []bind
	for _, m := range c.spec.VolumeMounts {
		var v *corev1.Volume
		for i := range w.pod.Spec.Volumes {
			if w.pod.Spec.Volumes[i].Name == m.Name {
				v = &w.pod.Spec.Volumes[i]
			}
		}
		if v == nil {
			return nil, fmt.Errorf("no volume %q", m.Name)
		}
		src, err := w.volume(v)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", m.Name, err)
		}
		if m.SubPath != "" {
			src = filepath.Join(src, m.SubPath)
			if v.EmptyDir != nil {
				_ = os.MkdirAll(src, 0o755)
			}
		}
		out = append(out, bind{Source: src, Target: m.MountPath, ReadOnly: m.ReadOnly})
	}
	return out, nil
}

// volume returns the directory that holds a volume's files, made on first use. Later changes of the
// Secret or ConfigMap reach it only when the container restarts.
func (w *worker) volume(v *corev1.Volume) (string, error) {
	dir := filepath.Join(w.dir, "vol", v.Name)
	files := map[string][]byte{}
	add := func(m map[string][]byte, err error, items []corev1.KeyToPath, optional *bool) error {
		if absent(err, optional) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(items) == 0 {
			for k, b := range m {
				files[k] = b
			}
			return nil
		}
		for _, it := range items {
			b, ok := m[it.Key]
			if !ok {
				if optional != nil && *optional {
					continue
				}
				return fmt.Errorf("no key %q", it.Key)
			}
			files[it.Path] = b
		}
		return nil
	}
	downward := func(items []corev1.DownwardAPIVolumeFile) error {
		for _, it := range items {
			if it.FieldRef == nil {
				continue
			}
			s, err := w.field(it.FieldRef.FieldPath)
			if err != nil {
				return err
			}
			files[it.Path] = []byte(s)
		}
		return nil
	}
	var err error
	switch {
	case v.HostPath != nil:
		if t := v.HostPath.Type; t != nil && *t == corev1.HostPathDirectoryOrCreate {
			_ = os.MkdirAll(v.HostPath.Path, 0o755)
		}
		return v.HostPath.Path, nil
	case v.EmptyDir != nil:
	case v.Secret != nil:
		m, e := w.secret(v.Secret.SecretName)
		err = add(m, e, v.Secret.Items, v.Secret.Optional)
	case v.ConfigMap != nil:
		m, e := w.configMap(v.ConfigMap.Name)
		err = add(m, e, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.DownwardAPI != nil:
		err = downward(v.DownwardAPI.Items)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			switch {
			case s.Secret != nil:
				m, e := w.secret(s.Secret.Name)
				err = add(m, e, s.Secret.Items, s.Secret.Optional)
			case s.ConfigMap != nil:
				m, e := w.configMap(s.ConfigMap.Name)
				err = add(m, e, s.ConfigMap.Items, s.ConfigMap.Optional)
			case s.DownwardAPI != nil:
				err = downward(s.DownwardAPI.Items)
			case s.ServiceAccountToken != nil:
				var tok string
				if tok, err = w.token(s.ServiceAccountToken); err == nil {
					files[s.ServiceAccountToken.Path] = []byte(tok)
				}
			}
			if err != nil {
				break
			}
		}
	default:
		err = fmt.Errorf("kind of volume not supported")
	}
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for name, b := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(p, b, 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func (w *worker) token(s *corev1.ServiceAccountTokenProjection) (string, error) {
	tr := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{
		ExpirationSeconds: s.ExpirationSeconds,
		BoundObjectRef:    &authv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: w.pod.Name, UID: w.pod.UID},
	}}
	if s.Audience != "" {
		tr.Spec.Audiences = []string{s.Audience}
	}
	// The API server refuses an expiry of less than ten minutes; tokens are not rotated.
	sa := w.pod.Spec.ServiceAccountName
	if sa == "" {
		sa = "default"
	}
	t, err := w.r.cs.CoreV1().ServiceAccounts(w.pod.Namespace).CreateToken(w.ctx, sa, tr, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return t.Status.Token, nil
}
