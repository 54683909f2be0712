package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// worker runs one pod.
type worker struct {
	r   *runner
	pod *corev1.Pod
	dir string
	sb  *sandbox

	ctx    context.Context // ends when the pod is to stop
	cancel context.CancelFunc

	mu        sync.Mutex
	grace     time.Duration
	abandoned bool
	started   metav1.Time
	inits     []*container
	conts     []*container
	dirty     chan struct{}
	since     map[corev1.PodConditionType]corev1.PodCondition
}

type container struct {
	spec     corev1.Container
	init     bool
	pid      int
	state    corev1.ContainerState
	last     corev1.ContainerState
	restarts int32
	ready    bool
}

func newWorker(r *runner, p *corev1.Pod) *worker {
	w := &worker{
		r: r, pod: p, dir: filepath.Join(r.c.stateDir, "pods", string(p.UID)), started: metav1.Now(),
		dirty: make(chan struct{}, 1), since: map[corev1.PodConditionType]corev1.PodCondition{},
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	mk := func(cs []corev1.Container, init bool) (out []*container) {
		for _, c := range cs {
			out = append(out, &container{spec: c, init: init, state: waiting("ContainerCreating", "")})
		}
		return out
	}
	w.inits, w.conts = mk(p.Spec.InitContainers, true), mk(p.Spec.Containers, false)
	return w
}

func waiting(reason, msg string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: msg}}
}

func (w *worker) name() string { return w.pod.Namespace + "/" + w.pod.Name }

func (w *worker) stop(grace time.Duration) {
	w.mu.Lock()
	w.grace = grace
	w.mu.Unlock()
	w.cancel()
}

func (w *worker) abandon() {
	w.mu.Lock()
	w.abandoned = true
	w.mu.Unlock()
	w.cancel()
}

func (w *worker) changed() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

func (w *worker) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.ctx.Done():
		return false
	}
}

func (w *worker) run() {
	defer w.cancel()
	statusDone := make(chan struct{})
	go func() { defer close(statusDone); w.statusLoop() }()
	w.runPod()
	<-w.ctx.Done()
	<-statusDone
	if w.sb != nil {
		w.sb.destroy()
	}
	_ = os.RemoveAll(w.dir)
	w.mu.Lock()
	abandoned := w.abandoned
	w.mu.Unlock()
	if !abandoned {
		w.r.deletePod(w.pod)
		for _, c := range append(append([]*container{}, w.inits...), w.conts...) {
			w.r.dropLog(w.pod.Namespace, w.pod.Name, c.spec.Name)
		}
	}
}

func (w *worker) runPod() {
	if !w.pod.Spec.HostNetwork {
		for {
			sb, err := w.r.net.create()
			if err == nil {
				w.mu.Lock()
				w.sb = sb
				w.mu.Unlock()
				break
			}
			log.Printf("%s: sandbox: %v", w.name(), err)
			if !w.sleep(time.Second) {
				return
			}
		}
	}
	w.changed()
	for _, c := range w.inits {
		if !w.runContainer(c) {
			return
		}
	}
	var wg sync.WaitGroup
	for _, c := range w.conts {
		wg.Add(1)
		go func() { defer wg.Done(); w.runContainer(c) }()
	}
	wg.Wait()
}

func (w *worker) set(c *container, f func()) {
	w.mu.Lock()
	f()
	w.mu.Unlock()
	w.changed()
}

// runContainer runs a container until the pod stops, or until it is done for good.
func (w *worker) runContainer(c *container) bool {
	lb := w.r.logFor(w.pod.Namespace, w.pod.Name, c.spec.Name)
	backoff := 500 * time.Millisecond
	for w.ctx.Err() == nil {
		spec, err := w.prepare(c)
		if err != nil {
			w.set(c, func() { c.state = waiting("CreateContainerConfigError", err.Error()) })
			if !w.sleep(250 * time.Millisecond) {
				return false
			}
			continue
		}
		start := time.Now()
		code, err := w.exec(c, spec, lb)
		if err != nil {
			log.Printf("%s/%s: %v", w.name(), c.spec.Name, err)
		}
		term := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: int32(code), Reason: map[bool]string{true: "Completed", false: "Error"}[code == 0],
			StartedAt: metav1.NewTime(start), FinishedAt: metav1.Now(), ContainerID: "podrunner://" + c.spec.Name,
		}}
		w.set(c, func() { c.ready, c.pid, c.state = false, 0, term })
		if w.ctx.Err() != nil {
			return false
		}
		policy := w.pod.Spec.RestartPolicy
		if code == 0 && (c.init || policy != corev1.RestartPolicyAlways) {
			return true
		}
		if policy == corev1.RestartPolicyNever {
			return false
		}
		log.Printf("%s/%s: exited with %d, restarting in %s", w.name(), c.spec.Name, code, backoff)
		w.set(c, func() { c.last, c.state = term, waiting("CrashLoopBackOff", ""); c.restarts++ })
		if !w.sleep(backoff) {
			return false
		}
		backoff = min(backoff*2, 10*time.Second)
	}
	return false
}

func (w *worker) prepare(c *container) (string, error) {
	img, err := w.r.image(c.spec.Image)
	if err != nil {
		return "", err
	}
	env, err := w.environ(c)
	if err != nil {
		return "", err
	}
	vars := map[string]string{}
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		vars[k] = v
	}
	var argv []string
	if len(c.spec.Command) > 1 {
		argv = append(argv, c.spec.Command[1:]...)
	}
	argv = append(argv, c.spec.Args...)
	if len(img.Args) > 0 {
		argv = append([]string(nil), img.Args...)
	}
	for i := range argv {
		argv[i] = expand(argv[i], vars)
	}
	s := initSpec{
		Root: filepath.Join(w.dir, "root-"+c.spec.Name), HostRoot: img.Host, Hostname: w.pod.Name,
		Binary: img.Binary, Argv: argv, Env: env, Dir: c.spec.WorkingDir,
		Files: map[string]string{"/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n"},
	}
	if w.sb != nil {
		s.OwnNet = true
		s.Files["/etc/hosts"] += w.sb.ip4 + " " + w.pod.Name + "\n"
	}
	if s.Binds, err = w.mounts(c); err != nil {
		return "", err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	p := filepath.Join(w.dir, c.spec.Name+".json")
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return "", err
	}
	return p, os.WriteFile(p, b, 0o600)
}

func (w *worker) exec(c *container, spec string, lb *logBuf) (int, error) {
	cmd := exec.Command("/proc/self/exe", "init", spec)
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid:     true, Pdeathsig: syscall.SIGKILL,
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return 1, err
	}
	cmd.Stdout, cmd.Stderr = pw, pw
	if w.sb != nil {
		cmd.ExtraFiles = []*os.File{w.sb.netns} // podNetns
	}
	res := make(chan error)
	w.r.forks <- func() { res <- cmd.Start() }
	err = <-res
	pw.Close()
	if err != nil {
		pr.Close()
		return 1, err
	}
	logDone := make(chan struct{})
	go func() { defer close(logDone); lb.read(pr); pr.Close() }()
	exited := make(chan struct{})
	var werr error
	go func() { defer close(exited); werr = cmd.Wait() }()
	now := metav1.Now()
	w.set(c, func() {
		c.pid = cmd.Process.Pid
		c.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}
	})
	if !c.init {
		go w.watchReady(c, cmd.Process.Pid, exited)
	}
	select {
	case <-exited:
	case <-w.ctx.Done():
		w.mu.Lock()
		g := w.grace
		if w.abandoned {
			g = time.Second
		}
		w.mu.Unlock()
		if g > 0 {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-exited:
			case <-time.After(g):
			}
		}
		_ = cmd.Process.Kill()
		<-exited
	}
	<-logDone
	var xe *exec.ExitError
	switch {
	case werr == nil:
		return 0, nil
	case errors.As(werr, &xe):
		if ws, ok := xe.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return xe.ExitCode(), nil
	default:
		return 1, werr
	}
}

func (w *worker) ip4() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ip4Locked()
}

func (w *worker) ip4Locked() string {
	switch {
	case w.pod.Spec.HostNetwork:
		return w.r.c.hostIP4
	case w.sb != nil:
		return w.sb.ip4
	}
	return ""
}

func (w *worker) podIPs() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.podIPsLocked()
}

func (w *worker) podIPsLocked() (out []string) {
	if a := w.ip4Locked(); a != "" {
		out = append(out, a)
	}
	switch {
	case w.pod.Spec.HostNetwork:
		out = append(out, w.r.c.hostIP6)
	case w.sb != nil:
		out = append(out, w.sb.ip6)
	}
	return out
}

func (w *worker) statusLoop() {
	var sent string
	for {
		select {
		case <-w.dirty:
		case <-w.ctx.Done():
			return
		}
		for w.ctx.Err() == nil {
			st := w.status()
			b, err := json.Marshal(map[string]any{
				"metadata": map[string]any{"uid": w.pod.UID}, "status": st,
			})
			if err != nil {
				log.Printf("%s: status: %v", w.name(), err)
				break
			}
			if string(b) == sent {
				break
			}
			_, err = w.r.cs.CoreV1().Pods(w.pod.Namespace).Patch(w.ctx, w.pod.Name, types.MergePatchType, b, metav1.PatchOptions{}, "status")
			if err == nil {
				sent = string(b)
				break
			}
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) || w.ctx.Err() != nil {
				break
			}
			log.Printf("%s: status: %v", w.name(), err)
			w.sleep(500 * time.Millisecond)
		}
	}
}

func (w *worker) status() corev1.PodStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := corev1.PodStatus{Phase: corev1.PodPending, StartTime: &w.started, HostIP: w.r.c.hostIP4}
	s.HostIPs = []corev1.HostIP{{IP: w.r.c.hostIP4}, {IP: w.r.c.hostIP6}}
	for _, a := range w.podIPsLocked() {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: a})
	}
	if len(s.PodIPs) > 0 {
		s.PodIP = s.PodIPs[0].IP
	}
	initialized, ready, running, failed, ended := true, true, false, false, true
	add := func(cs []*container) (out []corev1.ContainerStatus) {
		for _, c := range cs {
			up := c.state.Running != nil
			out = append(out, corev1.ContainerStatus{
				Name: c.spec.Name, Image: c.spec.Image, ImageID: c.spec.Image, State: c.state,
				LastTerminationState: c.last, RestartCount: c.restarts, Ready: c.ready, Started: &up,
				ContainerID: fmt.Sprintf("podrunner://%s/%s/%d", w.pod.UID, c.spec.Name, c.restarts),
			})
			if c.init {
				initialized = initialized && c.state.Terminated != nil && c.state.Terminated.ExitCode == 0
				continue
			}
			running = running || up || c.restarts > 0
			ready = ready && c.ready
			ended = ended && c.state.Terminated != nil
			failed = failed || c.state.Terminated != nil && c.state.Terminated.ExitCode != 0
		}
		return out
	}
	s.InitContainerStatuses, s.ContainerStatuses = add(w.inits), add(w.conts)
	switch {
	case ended && failed:
		s.Phase = corev1.PodFailed
	case ended:
		s.Phase = corev1.PodSucceeded
	case running:
		s.Phase = corev1.PodRunning
	}
	cond := func(t corev1.PodConditionType, v bool, reason string) {
		c := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, LastTransitionTime: metav1.Now(), ObservedGeneration: w.pod.Generation}
		if v {
			c.Status, c.Reason = corev1.ConditionTrue, ""
		}
		if old, ok := w.since[t]; ok && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		w.since[t] = c
		s.Conditions = append(s.Conditions, c)
	}
	cond(corev1.PodScheduled, true, "")
	cond(corev1.PodReadyToStartContainers, s.PodIP != "", "")
	cond(corev1.PodInitialized, initialized, "ContainersNotInitialized")
	cond(corev1.ContainersReady, ready, "ContainersNotReady")
	cond(corev1.PodReady, ready, "ContainersNotReady")
	s.QOSClass = w.pod.Status.QOSClass
	return s
}
