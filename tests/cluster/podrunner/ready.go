package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// watchReady sets the container's readiness. Without a probe a container counts as ready as soon as
// something listens in its network namespace (or after two seconds): the suite's backends have no
// probes, and a kubelet would call them ready a moment before they listen.
func (w *worker) watchReady(c *container, pid int, exited <-chan struct{}) {
	p := c.spec.ReadinessProbe
	tick := 20 * time.Millisecond
	deadline := time.Now().Add(2 * time.Second)
	if p != nil {
		tick = max(time.Duration(p.PeriodSeconds)*time.Second, time.Second)
		time.Sleep(time.Duration(p.InitialDelaySeconds) * time.Second)
	}
	for first := true; ; first = false {
		if p == nil && !w.pod.Spec.HostNetwork && !listening(pid) && time.Now().Before(deadline) {
		} else {
			ok := p == nil || w.probe(c, p)
			was := false
			w.set(c, func() {
				if c.pid == pid {
					was, c.ready = c.ready, ok
				}
			})
			if p == nil {
				return
			}
			if first || ok != was {
				log.Printf("%s/%s: ready=%t", w.name(), c.spec.Name, ok)
			}
		}
		d := tick
		w.mu.Lock()
		if p != nil && !c.ready {
			d = 250 * time.Millisecond
		}
		w.mu.Unlock()
		select {
		case <-exited:
			return
		case <-w.ctx.Done():
			return
		case <-time.After(d):
		}
	}
}

// listening reports whether the process's network namespace has a listening TCP or bound UDP socket.
func listening(pid int) bool {
	for _, f := range []string{"tcp", "tcp6", "udp", "udp6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, f))
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(b), "\n")[1:] {
			if x := strings.Fields(line); len(x) > 3 && (x[3] == "0A" || strings.HasPrefix(f, "udp")) {
				return true
			}
		}
	}
	return false
}

func (w *worker) probe(c *container, p *corev1.Probe) bool {
	to := max(time.Duration(p.TimeoutSeconds)*time.Second, time.Second)
	host := w.ip4()
	port := func(v string, n int32) string {
		if n != 0 {
			return strconv.Itoa(int(n))
		}
		for _, x := range c.spec.Ports {
			if x.Name == v {
				return strconv.Itoa(int(x.ContainerPort))
			}
		}
		return v
	}
	switch {
	case p.HTTPGet != nil:
		h := p.HTTPGet
		if h.Host != "" {
			host = h.Host
		}
		cl := http.Client{Timeout: to, Transport: &http.Transport{DisableKeepAlives: true}}
		u := strings.ToLower(string(h.Scheme)) + "://" + net.JoinHostPort(host, port(h.Port.StrVal, h.Port.IntVal)) + h.Path
		req, err := http.NewRequestWithContext(w.ctx, "GET", u, nil)
		if err != nil {
			return false
		}
		for _, x := range h.HTTPHeaders {
			req.Header.Set(x.Name, x.Value)
		}
		resp, err := cl.Do(req)
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp.StatusCode >= 200 && resp.StatusCode < 400
	case p.TCPSocket != nil:
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, port(p.TCPSocket.Port.StrVal, p.TCPSocket.Port.IntVal)), to)
		if err != nil {
			return false
		}
		conn.Close()
	case p.GRPC != nil:
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, strconv.Itoa(int(p.GRPC.Port))), to)
		if err != nil {
			return false
		}
		conn.Close()
	}
	return true // exec probes are not run
}
