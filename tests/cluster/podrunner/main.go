// Command podrunner plays kube-scheduler and kubelet on one machine without a container runtime.
//
// It binds every pod to one node, gives it a network namespace of its own, runs its containers as plain processes
// (binaries chosen by image name), reports status and serves logs. Deployments, ReplicaSets, EndpointSlices, the end of
// namespaces and garbage collection are a real kube-controller-manager's. Nothing that it makes has a name outside of
// this process: when it dies, however it dies, its containers and their namespaces are gone.
//
// Beside that it holds what else the cluster of the tests needs and no other program does: keys and certificates, a
// tether that ends a program with whoever started it, and a DNS server that is a pod.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func init() {
	// Namespaces and the death signal of a child belong to the thread: what main does stays on one.
	runtime.LockOSThread()
}

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: podrunner run|pki|tether|dns [flags]")
		os.Exit(2)
	}
	cmd, args := os.Args[1], os.Args[2:]
	var err error
	switch cmd {
	case "run":
		err = cmdRun(args)
	case "init": // started by run inside fresh pid, mount, uts and ipc namespaces
		err = cmdInit(args)
	case "pki":
		err = cmdPKI(args)
	case "tether":
		err = cmdTether(args)
	case "dns":
		err = cmdDNS()
	default:
		err = fmt.Errorf("unknown command %q", cmd)
	}
	if err != nil {
		log.Fatalf("podrunner %s: %v", cmd, err)
	}
}

// image says how to run the containers whose image name contains Match.
type image struct {
	Match  string `json:"match"`
	Binary string `json:"binary"`
	// Args, if there are any, take the place of the container's.
	Args []string `json:"args,omitempty"`
	// Host gives the container an overlay of the machine's root file system, for binaries that are not static. The
	// others get a tmpfs with the binary, /proc, /dev and their volumes.
	Host bool `json:"host,omitempty"`
}

type config struct {
	kubeconfig, stateDir, node, bridge    string
	hostIP4, hostIP6, podCIDR4, podCIDR6  string
	kubeletPort                           int
	tlsCert, tlsKey, clientCA, imagesFile string
	apiHost, apiPort                      string
	maxGrace                              time.Duration
	images                                []image
}

func cmdRun(args []string) error {
	var c config
	fs := flag.NewFlagSet("run", flag.ExitOnError)
	fs.StringVar(&c.kubeconfig, "kubeconfig", "", "kubeconfig")
	fs.StringVar(&c.stateDir, "state-dir", "", "directory for volumes, logs and specs")
	fs.StringVar(&c.node, "node-name", "node", "node that every pod is bound to")
	fs.StringVar(&c.bridge, "bridge", "", "existing bridge that pods are plugged into")
	fs.StringVar(&c.hostIP4, "host-ip4", "", "the bridge's IPv4 address: node address and the pods' default gateway")
	fs.StringVar(&c.hostIP6, "host-ip6", "", "the bridge's IPv6 address")
	fs.StringVar(&c.podCIDR4, "pod-cidr4", "", "pod addresses")
	fs.StringVar(&c.podCIDR6, "pod-cidr6", "", "pod addresses")
	fs.IntVar(&c.kubeletPort, "kubelet-port", 10250, "port for pods/log")
	fs.StringVar(&c.tlsCert, "tls-cert", "", "kubelet serving certificate")
	fs.StringVar(&c.tlsKey, "tls-key", "", "kubelet serving key")
	fs.StringVar(&c.clientCA, "client-ca", "", "CA of the API server's kubelet client certificate")
	fs.StringVar(&c.imagesFile, "images", "", "JSON list of image mappings")
	fs.StringVar(&c.apiHost, "api-host", "", "KUBERNETES_SERVICE_HOST in pods")
	fs.StringVar(&c.apiPort, "api-port", "6443", "KUBERNETES_SERVICE_PORT in pods")
	fs.DurationVar(&c.maxGrace, "max-grace", 5*time.Second, "upper bound of a pod's termination grace period")
	_ = fs.Parse(args)
	b, err := os.ReadFile(c.imagesFile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &c.images); err != nil {
		return fmt.Errorf("%s: %w", c.imagesFile, err)
	}
	rc, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return err
	}
	rc.QPS = -1
	cs, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	r, err := newRunner(c, cs)
	if err != nil {
		return err
	}
	go func() {
		if err := r.serveKubelet(ctx); err != nil && ctx.Err() == nil {
			log.Fatalf("kubelet server: %v", err)
		}
	}()
	for {
		if err := r.registerNode(ctx); err == nil {
			break
		} else if ctx.Err() != nil {
			return nil
		} else {
			log.Printf("register node: %v", err)
			time.Sleep(500 * time.Millisecond)
		}
	}
	r.run(ctx)
	log.Printf("stopping")
	r.shutdown()
	return nil
}
