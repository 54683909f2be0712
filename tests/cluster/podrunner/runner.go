package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

type runner struct {
	c   config
	cs  kubernetes.Interface
	net *podNet

	forks chan func() // run on one OS thread that never exits, so that Pdeathsig means "podrunner died"

	mu      sync.Mutex
	workers map[types.UID]*worker
	binding map[types.UID]bool
	logs    map[string]*logBuf // namespace/pod/container
	wg      sync.WaitGroup
}

func newRunner(c config, cs kubernetes.Interface) (*runner, error) {
	n, err := newPodNet(&c)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"pods", "logs"} {
		if err := os.MkdirAll(filepath.Join(c.stateDir, d), 0o755); err != nil {
			return nil, err
		}
	}
	r := &runner{
		c: c, cs: cs, net: n, forks: make(chan func()),
		workers: map[types.UID]*worker{}, binding: map[types.UID]bool{}, logs: map[string]*logBuf{},
	}
	go func() {
		runtime.LockOSThread()
		for f := range r.forks {
			f()
		}
	}()
	return r, nil
}

func (r *runner) registerNode(ctx context.Context) error {
	res := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("64"),
		corev1.ResourceMemory:           resource.MustParse("64Gi"),
		corev1.ResourcePods:             resource.MustParse("1000"),
		corev1.ResourceEphemeralStorage: resource.MustParse("64Gi"),
	}
	now := metav1.Now()
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: r.c.node,
			Labels: map[string]string{
				corev1.LabelHostname: r.c.node, corev1.LabelOSStable: "linux", corev1.LabelArchStable: runtime.GOARCH,
			},
		},
		Spec: corev1.NodeSpec{PodCIDR: r.c.podCIDR4, PodCIDRs: []string{r.c.podCIDR4, r.c.podCIDR6}},
	}
	if _, err := r.cs.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	n, err := r.cs.CoreV1().Nodes().Get(ctx, r.c.node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	n.Status = corev1.NodeStatus{
		Capacity: res, Allocatable: res,
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: r.c.hostIP4},
			{Type: corev1.NodeInternalIP, Address: r.c.hostIP6},
			{Type: corev1.NodeHostName, Address: r.c.node},
		},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(r.c.kubeletPort)}},
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
			LastHeartbeatTime: now, LastTransitionTime: now,
		}},
		NodeInfo: corev1.NodeSystemInfo{
			OperatingSystem: "linux", Architecture: runtime.GOARCH, KubeletVersion: "v0.0.0-podrunner",
			ContainerRuntimeVersion: "podrunner://0",
		},
	}
	_, err = r.cs.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{})
	return err
}

func (r *runner) run(ctx context.Context) {
	f := informers.NewSharedInformerFactory(r.cs, 0)
	inf := f.Core().V1().Pods().Informer()
	_, _ = inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { r.sync(ctx, o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { r.sync(ctx, o.(*corev1.Pod)) },
		DeleteFunc: func(o any) {
			if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = d.Obj
			}
			if p, ok := o.(*corev1.Pod); ok {
				r.mu.Lock()
				w := r.workers[p.UID]
				delete(r.binding, p.UID)
				r.mu.Unlock()
				if w != nil {
					w.stop(0)
				}
			}
		},
	})
	f.Start(ctx.Done())
	<-ctx.Done()
}

func (r *runner) sync(ctx context.Context, p *corev1.Pod) {
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.workers[p.UID]
	switch {
	case p.Spec.NodeName == "" && p.DeletionTimestamp != nil:
		go r.deletePod(p)
	case p.Spec.NodeName == "":
		if !r.binding[p.UID] {
			r.binding[p.UID] = true
			go r.bind(ctx, p)
		}
	case p.Spec.NodeName != r.c.node:
	case p.DeletionTimestamp != nil:
		if w != nil {
			g := int64(30)
			if p.DeletionGracePeriodSeconds != nil {
				g = *p.DeletionGracePeriodSeconds
			}
			w.stop(min(time.Duration(g)*time.Second, r.c.maxGrace))
		} else {
			go r.deletePod(p)
		}
	case w == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed:
		delete(r.binding, p.UID)
		w = newWorker(r, p.DeepCopy())
		r.workers[p.UID] = w
		r.wg.Add(1)
		go func() {
			defer r.wg.Done()
			w.run()
			r.mu.Lock()
			delete(r.workers, p.UID)
			r.mu.Unlock()
		}()
	}
}

// bind is the scheduler.
func (r *runner) bind(ctx context.Context, p *corev1.Pod) {
	err := r.cs.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: r.c.node},
	}, metav1.CreateOptions{})
	if err != nil {
		log.Printf("bind %s/%s: %v", p.Namespace, p.Name, err)
		r.mu.Lock()
		delete(r.binding, p.UID)
		r.mu.Unlock()
	}
}

func (r *runner) deletePod(p *corev1.Pod) {
	zero := int64(0)
	err := r.cs.CoreV1().Pods(p.Namespace).Delete(context.Background(), p.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &p.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		log.Printf("delete %s/%s: %v", p.Namespace, p.Name, err)
	}
}

// shutdown stops every pod without touching the API, which may be gone already.
func (r *runner) shutdown() {
	r.mu.Lock()
	for _, w := range r.workers {
		w.abandon()
	}
	r.mu.Unlock()
	done := make(chan struct{})
	go func() { r.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		log.Printf("some pods did not stop in time")
	}
}

func (r *runner) logFor(ns, pod, container string) *logBuf {
	key := ns + "/" + pod + "/" + container
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.logs[key]
	if l == nil {
		l = newLogBuf(filepath.Join(r.c.stateDir, "logs", strings.ReplaceAll(key, "/", "_")+".log"))
		r.logs[key] = l
	}
	return l
}

func (r *runner) findLog(ns, pod, container string) *logBuf {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logs[ns+"/"+pod+"/"+container]
}

func (r *runner) dropLog(ns, pod, container string) {
	key := ns + "/" + pod + "/" + container
	r.mu.Lock()
	l := r.logs[key]
	delete(r.logs, key)
	r.mu.Unlock()
	if l != nil {
		l.close()
	}
}

func (r *runner) image(name string) (*image, error) {
	for i := range r.c.images {
		if strings.Contains(name, r.c.images[i].Match) {
			return &r.c.images[i], nil
		}
	}
	return nil, fmt.Errorf("no binary is mapped to image %q", name)
}
