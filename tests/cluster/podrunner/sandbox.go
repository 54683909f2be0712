package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// podNet makes one network namespace per pod, joined to the bridge by a veth pair. Addresses are handed out in ascending
// order and are not used again until the range wraps, so that a test never reaches a stale neighbour entry or an
// unrelated later pod.
type podNet struct {
	mu     sync.Mutex
	c      *config
	p4, p6 netip.Prefix
	n      uint32
}

// sandbox is a pod's network namespace. It is held by its file alone, so that nothing of it outlives this process.
type sandbox struct {
	netns    *os.File
	veth     string
	ip4, ip6 string
}

func newPodNet(c *config) (*podNet, error) {
	p4, err := netip.ParsePrefix(c.podCIDR4)
	if err != nil {
		return nil, err
	}
	p6, err := netip.ParsePrefix(c.podCIDR6)
	if err != nil {
		return nil, err
	}
	return &podNet{c: c, p4: p4, p6: p6, n: 9}, nil
}

// addTo returns the n-th address of a prefix.
func addTo(p netip.Prefix, n uint32) string {
	b := p.Masked().Addr().AsSlice()
	for i := len(b) - 1; n > 0; i, n = i-1, n>>8 {
		b[i] |= byte(n)
	}
	a, _ := netip.AddrFromSlice(b)
	return a.String()
}

func (n *podNet) create() (*sandbox, error) {
	n.mu.Lock()
	n.n++
	if n.n >= uint32(1)<<(32-n.p4.Bits())-1 {
		n.n = 10
	}
	i := n.n
	n.mu.Unlock()
	netns, err := newNetns()
	if err != nil {
		return nil, err
	}
	s := &sandbox{netns: netns, veth: fmt.Sprintf("pod%x", i), ip4: addTo(n.p4, i), ip6: addTo(n.p6, i)}
	outside := fmt.Sprintf("link add %s type veth peer name eth0 netns /proc/%d/fd/%d\nlink set %s master %s up\n",
		s.veth, os.Getpid(), netns.Fd(), s.veth, n.c.bridge)
	inside := fmt.Sprintf("link set lo up\naddr add %s/%d dev eth0\naddr add %s/%d dev eth0 nodad\nlink set eth0 up\n"+
		"route add default via %s\nroute add default via %s\n",
		s.ip4, n.p4.Bits(), s.ip6, n.p6.Bits(), n.c.hostIP4, n.c.hostIP6)
	if err := ip(outside); err != nil {
		s.destroy()
		return nil, err
	}
	if err := within(netns, func() error { return ip(inside) }); err != nil {
		s.destroy()
		return nil, err
	}
	return s, nil
}

func (s *sandbox) destroy() {
	_ = ip("link del " + s.veth + "\n")
	s.netns.Close()
}

// newNetns makes a network namespace without a name.
func newNetns() (*os.File, error) {
	var f *os.File
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		var err error
		f, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return f, err
}

// within runs f in a network namespace.
func within(netns *os.File, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks it
		done <- f()
	}()
	return <-done
}

// ip runs lines of ip(8).
func ip(lines string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(lines)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ip: %w: %s, of:\n%s", err, strings.TrimSpace(out.String()), lines)
	}
	return nil
}
