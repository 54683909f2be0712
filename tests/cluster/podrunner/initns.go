package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

type bind struct {
	Source, Target string
	ReadOnly       bool
}

// initSpec is what "podrunner init" needs to become a container's process.
type initSpec struct {
	OwnNet   bool   // the pod's network namespace is on descriptor podNetns
	Root     string // directory to mount the root file system on
	HostRoot bool
	Hostname string
	Binary   string
	Argv     []string
	Env      []string
	Dir      string
	Binds    []bind
	Files    map[string]string
}

// podNetns is the first descriptor after the standard ones.
const podNetns = 3

// cmdInit runs in new pid, mount, uts and ipc namespaces: it enters the pod's network namespace,
// builds the root file system, and executes the container's binary as process 1.
func cmdInit(args []string) error {
	b, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var s initSpec
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s.OwnNet {
		if err := unix.Setns(podNetns, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the pod's network namespace: %w", err)
		}
		unix.Close(podNetns)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make / private: %w", err)
	}
	if err := os.MkdirAll(s.Root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", s.Root, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	root := s.Root
	if s.HostRoot {
		for _, d := range []string{"u", "w", "m"} {
			if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
				return err
			}
		}
		opt := fmt.Sprintf("lowerdir=/,upperdir=%s/u,workdir=%s/w", root, root)
		root = filepath.Join(root, "m")
		if err := unix.Mount("overlay", root, "overlay", 0, opt); err != nil {
			return fmt.Errorf("overlay: %w", err)
		}
	}
	for _, d := range []string{"proc", "sys", "dev", "etc", "tmp", "run", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	_ = os.Chmod(filepath.Join(root, "tmp"), 0o1777)
	if err := unix.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	// sysfs shows the network namespace of whoever mounts it.
	_ = unix.Mount("sysfs", filepath.Join(root, "sys"), "sysfs", unix.MS_RDONLY, "")
	if s.HostRoot {
		if err := unix.Mount("/dev", filepath.Join(root, "dev"), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("dev: %w", err)
		}
	} else {
		for _, d := range []string{"null", "zero", "full", "random", "urandom"} {
			if err := bindMount(root, bind{Source: "/dev/" + d, Target: "/dev/" + d}); err != nil {
				return err
			}
		}
		if _, err := os.Stat("/etc/ssl/certs"); err == nil {
			if err := bindMount(root, bind{Source: "/etc/ssl/certs", Target: "/etc/ssl/certs", ReadOnly: true}); err != nil {
				return err
			}
		}
	}
	for name, text := range s.Files {
		p := filepath.Join(root, name)
		_ = os.MkdirAll(filepath.Dir(p), 0o755)
		_ = os.Remove(p)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			return err
		}
	}
	exe := "/.container/" + filepath.Base(s.Binary)
	if err := bindMount(root, bind{Source: s.Binary, Target: exe, ReadOnly: true}); err != nil {
		return err
	}
	// Outer mounts first.
	sort.SliceStable(s.Binds, func(i, j int) bool {
		return strings.Count(s.Binds[i].Target, "/") < strings.Count(s.Binds[j].Target, "/")
	})
	for _, m := range s.Binds {
		if err := bindMount(root, m); err != nil {
			return err
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach old root: %w", err)
	}
	dir := s.Dir
	if dir == "" {
		dir = "/"
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if s.Hostname != "" {
		_ = unix.Sethostname([]byte(s.Hostname))
	}
	argv := append([]string{exe}, s.Argv...)
	return fmt.Errorf("exec %s: %w", exe, unix.Exec(exe, argv, s.Env))
}

func bindMount(root string, m bind) error {
	st, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	dst := filepath.Join(root, m.Target)
	if st.IsDir() {
		err = os.MkdirAll(dst, 0o755)
	} else {
		if err = os.MkdirAll(filepath.Dir(dst), 0o755); err == nil {
			var f *os.File
			if f, err = os.OpenFile(dst, os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
				f.Close()
			}
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(m.Source, dst, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s on %s: %w", m.Source, m.Target, err)
	}
	if m.ReadOnly {
		if err := unix.Mount("", dst, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("remount %s read-only: %w", m.Target, err)
		}
	}
	return nil
}
