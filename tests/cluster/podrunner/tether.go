package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// cmdTether runs a program that ends with whoever started it: when standard input ends, as it does when the process at
// the other end of the pipe is gone, the program is killed, and so it is when this process dies. What a program that has
// ended leaves behind is killed too, and all have been waited for when this ends, so that then nothing is left. SIGTERM is
// passed on; SIGINT, which a terminal sends to everybody at once, is left to whoever started this.
func cmdTether(args []string) error {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("no program named")
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	// What the program leaves behind comes here, and not to some process 1 that may be slow to wait for it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a reaper: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGINT)
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	// The death signal is the calling thread's: main's, which lives as long as the process.
	p, err := os.StartProcess(path, args, &os.ProcAttr{
		Files: []*os.File{null, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return err
	}
	go func() {
		for range terms {
			_ = p.Signal(syscall.SIGTERM)
		}
	}()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = p.Kill()
	}()
	code, ended := 0, false
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // no child is left
			os.Exit(code)
		case pid == p.Pid && status.Signaled():
			code, ended = 128+int(status.Signal()), true
		case pid == p.Pid:
			code, ended = status.ExitStatus(), true
		}
		if ended {
			// The children of each that dies come here next.
			killChildren()
		}
	}
}

// killChildren kills every process whose parent is this one.
func killChildren() {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// After the name, which may hold anything: the state, the parent.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
